-- Rows that the cursor has not passed; from the session of whoever asks, so all that is committed.
SELECT count(*)
FROM (SELECT * FROM outbox.r0 UNION ALL SELECT * FROM outbox.r1 UNION ALL SELECT * FROM outbox.r2) AS o, outbox.cursor AS c
WHERE NOT pg_visible_in_snapshot(o.xid, c.s1) AND (c.s2 IS NULL OR NOT pg_visible_in_snapshot(o.xid, c.s2) OR o.seq > c.acked_seq)
