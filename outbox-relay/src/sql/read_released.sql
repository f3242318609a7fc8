-- Rows of the quarantine that are to be sent, behind seq $1, in seq order, $2 rows at most: requeued ones, and those that waited behind rows which
-- are settled. What stands behind a held row waits.
SELECT q.seq, q.recorded_at, q.topic, q.key, q.headers, q.payload
FROM outbox.quarantine AS q
WHERE q.state IN ('requeued', 'parked') AND q.seq > $1::bigint AND (NOT q.in_order OR NOT EXISTS (
    SELECT FROM outbox.quarantine AS h WHERE h.state = 'held' AND h.key = q.key AND h.seq < q.seq
))
ORDER BY q.seq
LIMIT $2::bigint
