-- The row of the outbox with seq $1.
SELECT o.seq, o.recorded_at, o.topic, o.key, o.headers, o.payload
FROM (SELECT * FROM outbox.r0 UNION ALL SELECT * FROM outbox.r1 UNION ALL SELECT * FROM outbox.r2) AS o
WHERE o.seq = $1
