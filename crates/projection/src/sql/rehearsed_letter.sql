SELECT d.record_offset, d.key, d.value, d.headers, d.written_at, d.state = 'draining' AS is_begun
FROM dead_letter AS d
WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4 AND d.record_offset = $5
