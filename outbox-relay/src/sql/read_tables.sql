-- Which table is written, for how long, and how large each is, in bytes.
SELECT
    r.current, extract(epoch FROM clock_timestamp() - r.rotated_at)::bigint AS age_s,
    pg_relation_size('outbox.r0') AS r0, pg_relation_size('outbox.r1') AS r1, pg_relation_size('outbox.r2') AS r2
FROM outbox.rotation AS r
