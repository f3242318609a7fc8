-- Whoever lost the partition meanwhile has nothing to say about it.
UPDATE checkpoint SET stopped_code = $6, stopped_reason = $7
WHERE projection = $1 AND generation = $2 AND topic = $3 AND partition = $4 AND epoch = $5
