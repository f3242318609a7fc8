UPDATE checkpoint SET next_offset = $7, newest_at = coalesce($8, newest_at), last_event_id = $9
WHERE projection = $1 AND generation = $2 AND topic = $3 AND partition = $4 AND epoch = $5 AND next_offset = $6
