-- At most $5 dead letters with a wish, the oldest wishes first, until their values are $6 bytes.
SELECT
    w.record_offset, w.revision, w.discard, w.state = 'draining' AS is_begun, w.key, w.value, w.headers, w.written_at, w.attempts, w.replay_count,
    w.first_failed_at
FROM (
    SELECT d.*, sum(coalesce(octet_length(d.value), 0)) OVER (ORDER BY d.wished_at, d.record_offset) AS bytes
    FROM (
        SELECT * FROM dead_letter AS l
        WHERE l.projection = $1 AND l.generation = $2 AND l.topic = $3 AND l.partition = $4 AND l.wished_at IS NOT NULL
        ORDER BY l.wished_at, l.record_offset
        LIMIT $5
    ) AS d
) AS w
WHERE w.bytes - coalesce(octet_length(w.value), 0) < $6::bigint
ORDER BY w.record_offset
