SELECT c.epoch, c.next_offset
FROM checkpoint AS c
WHERE c.projection = $1 AND c.generation = $2 AND c.topic = $3 AND c.partition = $4
