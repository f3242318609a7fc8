-- What is parked behind dead letters $5, of each up to the offset in $6. Each queue is looked up by itself, as in claim_letters.
SELECT w.head, p.record_offset, p.key, p.value, p.headers, p.written_at
FROM unnest($5::bigint[], $6::bigint[]) AS w (head, through)
CROSS JOIN LATERAL (
    SELECT d.key_hash FROM dead_letter AS d
    WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4 AND d.record_offset = w.head
    LIMIT 1
) AS h
CROSS JOIN LATERAL (
    SELECT * FROM parked_record AS r
    WHERE r.projection = $1 AND r.generation = $2 AND r.topic = $3 AND r.partition = $4 AND r.key_hash = h.key_hash AND r.record_offset <= w.through
    OFFSET 0
) AS p
ORDER BY w.head, p.record_offset
