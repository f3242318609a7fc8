-- What is parked behind dead letter $5: $6 records at most, without the values of those that are longer than $7 bytes.
SELECT p.record_offset, p.key, CASE WHEN octet_length(p.value) <= $7::integer THEN p.value END AS value, p.headers, p.written_at
FROM dead_letter AS d
JOIN parked_record AS p
    ON p.projection = d.projection AND p.generation = d.generation AND p.topic = d.topic AND p.partition = d.partition AND p.key_hash = d.key_hash
WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4 AND d.record_offset = $5
ORDER BY p.record_offset
LIMIT $6
