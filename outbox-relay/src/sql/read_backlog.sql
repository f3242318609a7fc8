-- What is not in Kafka, as the cursor has it: how many rows, $1 at most; the age of the first of them in milliseconds; how many numbers were drawn
-- since it.
WITH cursor AS MATERIALIZED (
    SELECT c.s1, c.s2, c.acked_seq, least(c.mark_floors[1], (SELECT min(f.floor) FROM unnest(c.xip_floors) AS f (floor))) AS floor
    FROM outbox.cursor AS c
), backlog AS MATERIALIZED (
    SELECT o.seq, o.recorded_at
    FROM (SELECT * FROM outbox.r0 UNION ALL SELECT * FROM outbox.r1 UNION ALL SELECT * FROM outbox.r2) AS o
    WHERE o.seq > (SELECT c.floor FROM cursor AS c) AND NOT pg_visible_in_snapshot(o.xid, (SELECT c.s1 FROM cursor AS c))
        AND (SELECT c.s2 IS NULL OR NOT pg_visible_in_snapshot(o.xid, c.s2) OR o.seq > c.acked_seq FROM cursor AS c)
    ORDER BY o.seq
    LIMIT $1::bigint
)
SELECT
    count(*) AS rows,
    coalesce(extract(epoch FROM clock_timestamp() - min(b.recorded_at)) * 1000, 0)::bigint AS age_ms,
    coalesce(pg_sequence_last_value('outbox.seq') - min(b.seq) + 1, 0) AS numbers
FROM backlog AS b
