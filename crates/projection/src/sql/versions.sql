SELECT v.stream_id, v.version, v.event_id
FROM stream_version AS v
WHERE v.generation = $1 AND v.stream_id = ANY ($2)
