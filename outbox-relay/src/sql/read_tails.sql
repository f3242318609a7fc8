-- The tails, unless another relay has taken the lease; $1 the epoch.
SELECT c.tail_topics, c.tail_partitions, c.tail_offsets, c.tail_ends FROM outbox.cursor AS c WHERE c.epoch = $1
