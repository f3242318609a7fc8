-- Where generations $2 stand, on each partition that one of them was given.
SELECT c.generation, c.partition, c.next_offset, c.epoch, c.newest_at, c.stopped_code, c.stopped_reason
FROM checkpoint AS c
WHERE c.projection = $1 AND c.generation = ANY ($2::integer[])
ORDER BY c.generation, c.partition
