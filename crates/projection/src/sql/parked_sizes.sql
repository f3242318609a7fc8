-- What is parked behind dead letters $5, and how large it is: $6 records of each at most, and in all.
SELECT d.record_offset AS head, r.record_offset, r.bytes
FROM dead_letter AS d
CROSS JOIN LATERAL (
    SELECT p.record_offset, coalesce(octet_length(p.value), 0)::bigint AS bytes
    FROM parked_record AS p
    WHERE p.projection = d.projection AND p.generation = d.generation AND p.topic = d.topic AND p.partition = d.partition AND p.key_hash = d.key_hash
    ORDER BY p.record_offset
    LIMIT $6
) AS r
WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4 AND d.record_offset = ANY ($5::bigint[])
ORDER BY d.record_offset, r.record_offset
LIMIT $6
