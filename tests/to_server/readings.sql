CREATE TABLE readings(
    device text, id bigint, time_ns bigint, "timestamp" timestamptz,
    sensor text, field text, value text, run bigint,
    PRIMARY KEY(device, run, id)
);
CREATE TABLE positions(sender text PRIMARY KEY, after text NOT NULL);
