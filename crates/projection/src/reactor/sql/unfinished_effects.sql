SELECT effect_id, record_offset, ordinal, event_id, key, decided_at, traceparent, effect
FROM reactor.effect
WHERE reactor = $1 AND topic = $2 AND partition = $3 AND state = 'pending' AND (record_offset, ordinal) > ($4, $5)
ORDER BY record_offset, ordinal
LIMIT $6
