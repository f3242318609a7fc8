-- What is parked behind dead letters $5, of each up to the offset in $6.
SELECT d.record_offset AS head, p.record_offset, p.key, p.value, p.headers, p.written_at
FROM unnest($5::bigint[], $6::bigint[]) AS w (head, through)
JOIN dead_letter AS d
    ON d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4 AND d.record_offset = w.head
JOIN parked_record AS p
    ON p.projection = $1 AND p.generation = $2 AND p.topic = $3 AND p.partition = $4 AND p.key_hash = d.key_hash AND p.record_offset <= w.through
ORDER BY d.record_offset, p.record_offset
