SELECT c.partition, c.epoch, c.next_offset, c.newest_at, c.stopped_code
FROM checkpoint AS c
WHERE c.projection = $1 AND c.generation = $2 AND c.topic = $3
ORDER BY c.partition
