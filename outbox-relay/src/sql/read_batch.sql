-- A page of the batch of $1 and $2: what $2 shows beyond $1, behind seq $3, in seq order, $4 rows at most.
-- The three tables are joined bare and filtered outside: only so does the planner merge their indexes instead of sorting the whole batch.
SELECT NULL::pg_snapshot AS snapshot, o.seq, o.recorded_at, o.topic, o.key, o.headers, o.payload
FROM (SELECT * FROM outbox.r0 UNION ALL SELECT * FROM outbox.r1 UNION ALL SELECT * FROM outbox.r2) AS o
WHERE o.seq > $3::bigint AND NOT pg_visible_in_snapshot(o.xid, $1::pg_snapshot) AND pg_visible_in_snapshot(o.xid, $2::pg_snapshot)
ORDER BY o.seq
LIMIT $4::bigint
