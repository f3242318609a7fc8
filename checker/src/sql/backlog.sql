-- Rows of the outbox that the cursor does not say are in Kafka: those that its first snapshot does not show, without those that its second one
-- shows up to the number that is acknowledged.
SELECT count(*) AS rows
FROM outbox.cursor AS c
CROSS JOIN LATERAL (
    SELECT r.xid, r.seq FROM outbox.r0 AS r
    UNION ALL SELECT r.xid, r.seq FROM outbox.r1 AS r
    UNION ALL SELECT r.xid, r.seq FROM outbox.r2 AS r
) AS o
WHERE NOT pg_visible_in_snapshot(o.xid, c.s1)
    AND NOT (c.s2 IS NOT NULL AND pg_visible_in_snapshot(o.xid, c.s2) AND o.seq <= c.acked_seq)
