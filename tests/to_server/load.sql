\set ON_ERROR_STOP on
SELECT coalesce((SELECT after FROM positions WHERE sender = :'sender'), '0') AS after \gset
\setenv AFTER :after
BEGIN;
CREATE TEMP TABLE incoming(arrived bigserial, LIKE readings) ON COMMIT DROP;
\copy incoming(device, id, time_ns, "timestamp", sensor, field, value, run) FROM PROGRAM 'timeout --preserve-status 5 seawall export --follow --format csv --after $AFTER' CSV HEADER
INSERT INTO readings SELECT device, id, time_ns, "timestamp", sensor, field, value, run FROM incoming ON CONFLICT DO NOTHING;
INSERT INTO positions SELECT :'sender', device || ':' || run || ':' || id FROM incoming ORDER BY arrived DESC LIMIT 1
    ON CONFLICT (sender) DO UPDATE SET after = excluded.after;
COMMIT;
