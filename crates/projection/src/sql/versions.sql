SELECT v.stream_id, v.version
FROM stream_version AS v
WHERE v.generation = $1 AND v.stream_id = ANY ($2)
