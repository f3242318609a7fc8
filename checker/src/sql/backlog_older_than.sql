-- As backlog.sql, of rows whose transactions began at least so many milliseconds ago.
SELECT count(*) AS rows
FROM outbox.cursor AS c
CROSS JOIN LATERAL (
    SELECT r.xid, r.seq, r.recorded_at FROM outbox.r0 AS r
    UNION ALL SELECT r.xid, r.seq, r.recorded_at FROM outbox.r1 AS r
    UNION ALL SELECT r.xid, r.seq, r.recorded_at FROM outbox.r2 AS r
) AS o
WHERE NOT pg_visible_in_snapshot(o.xid, c.s1)
    AND NOT (c.s2 IS NOT NULL AND pg_visible_in_snapshot(o.xid, c.s2) AND o.seq <= c.acked_seq)
    AND o.recorded_at < clock_timestamp() - make_interval(secs => $1::bigint / 1000.0)
