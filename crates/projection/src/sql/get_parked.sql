-- The bytes of a dead letter: of its value the first $6.
SELECT d.key, substring(d.value FOR $6) AS value
FROM dead_letter AS d
WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4 AND d.record_offset = $5
