-- How far the live generation has read each partition.
SELECT c.topic, c.partition, c.next_offset FROM projection.checkpoint AS c WHERE c.generation = $1 ORDER BY c.topic, c.partition
