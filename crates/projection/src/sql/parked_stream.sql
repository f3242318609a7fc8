SELECT d.group_id, d.partition, d.record_offset
FROM dead_letter AS d
WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.streams && $4::uuid[]
LIMIT 1
