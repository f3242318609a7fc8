-- Record $6 of the queue of key $5 leaves it: it is a dead letter from here on.
DELETE FROM parked_record AS p
WHERE p.projection = $1 AND p.generation = $2 AND p.topic = $3 AND p.partition = $4 AND p.key_hash = sha256($5::bytea) AND p.record_offset = $6
