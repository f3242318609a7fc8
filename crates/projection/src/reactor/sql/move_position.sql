UPDATE reactor.position SET next_offset = $6, last_event_id = $7
WHERE reactor = $1 AND topic = $2 AND partition = $3 AND epoch = $4 AND next_offset = $5
