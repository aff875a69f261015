\set ON_ERROR_STOP on
SELECT coalesce((SELECT run || ':' || id FROM readings WHERE device = :'device'
    ORDER BY run DESC, id DESC LIMIT 1), '0') AS after \gset
\setenv AFTER :after
BEGIN;
CREATE TEMP TABLE incoming(LIKE readings) ON COMMIT DROP;
\copy incoming FROM PROGRAM 'timeout --preserve-status 5 seawall export --follow --format csv --after $AFTER' CSV HEADER
INSERT INTO readings SELECT * FROM incoming ON CONFLICT DO NOTHING;
COMMIT;
