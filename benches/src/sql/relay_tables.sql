-- What the outbox's tables take: bytes of the three together, dead rows in them, rows that were updated or deleted; the same of the two rows that the
-- relay itself keeps up to date.
SELECT
    (SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class AS c WHERE c.oid IN ('outbox.r0'::regclass, 'outbox.r1'::regclass, 'outbox.r2'::regclass)) AS bytes,
    coalesce(sum(s.n_dead_tup) FILTER (WHERE s.relname ~ '^r[0-2]$'), 0)::bigint AS dead,
    coalesce(sum(s.n_tup_upd + s.n_tup_del) FILTER (WHERE s.relname ~ '^r[0-2]$'), 0)::bigint AS changed,
    (pg_total_relation_size('outbox.cursor') + pg_total_relation_size('outbox.lease'))::bigint AS cursor_bytes,
    coalesce(sum(s.n_dead_tup) FILTER (WHERE s.relname IN ('cursor', 'lease')), 0)::bigint AS cursor_dead
FROM pg_stat_user_tables AS s
WHERE s.schemaname = 'outbox'
