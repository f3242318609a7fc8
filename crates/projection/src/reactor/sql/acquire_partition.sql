INSERT INTO reactor.position AS p (reactor, topic, partition) VALUES ($1, $2, $3)
ON CONFLICT (reactor, topic, partition) DO UPDATE SET epoch = p.epoch + 1
RETURNING epoch, next_offset, last_event_id, settlements
