-- The epoch grows, so what was read under an earlier one can't be committed any more. Whoever takes a partition tries again what stopped it.
INSERT INTO checkpoint AS c (projection, generation, topic, partition)
VALUES ($1, $2, $3, $4)
ON CONFLICT (projection, generation, topic, partition) DO UPDATE SET epoch = c.epoch + 1, stopped_code = NULL, stopped_reason = NULL
RETURNING c.epoch, c.next_offset, c.last_event_id
