-- The epoch grows, so what was read under an earlier one can't be committed any more.
INSERT INTO checkpoint AS c (projection, generation, topic, partition)
VALUES ($1, $2, $3, $4)
ON CONFLICT (projection, generation, topic, partition) DO UPDATE SET epoch = c.epoch + 1
RETURNING c.epoch, c.next_offset
