SELECT count(*)
FROM parked_record AS p
WHERE p.projection = $1 AND p.generation = $2 AND p.topic = $3 AND p.partition = $4
