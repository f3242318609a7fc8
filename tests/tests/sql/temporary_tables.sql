-- Temporary tables, and sessions of comparisons with the fold, which have them.
SELECT
    (SELECT count(*) FROM pg_class AS c WHERE c.relpersistence = 't')
    + (SELECT count(*) FROM pg_stat_activity AS a WHERE a.datname = current_database() AND a.application_name LIKE '%-verifier')
