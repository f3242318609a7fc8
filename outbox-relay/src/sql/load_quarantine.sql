-- What a relay must know of the quarantine before it reads behind the cursor: the rows that wait, and those that are settled but may be read
-- again, because the cursor has not passed them.
SELECT q.seq, q.key, q.state, q.in_order
FROM outbox.quarantine AS q
WHERE q.state IN ('held', 'parked', 'diverted', 'requeued')
UNION ALL
SELECT q.seq, q.key, q.state, q.in_order
FROM outbox.cursor AS c CROSS JOIN outbox.quarantine AS q
WHERE q.state IN ('sent', 'skipped')
    AND q.seq > least(c.mark_floors[1], (SELECT min(f.floor) FROM unnest(c.xip_floors) AS f (floor)))
    AND NOT pg_visible_in_snapshot(q.xid, c.s1)
    AND (c.s2 IS NULL OR NOT pg_visible_in_snapshot(q.xid, c.s2) OR q.seq > c.acked_seq)
ORDER BY 1
