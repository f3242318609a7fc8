-- Which of the records of partitions $4 and offsets $5 wait behind a dead letter.
SELECT p.partition, p.record_offset
FROM parked_record AS p
JOIN unnest($4::integer[], $5::bigint[]) AS a (partition, record_offset) ON a.partition = p.partition AND a.record_offset = p.record_offset
WHERE p.projection = $1 AND p.generation = $2 AND p.topic = $3
