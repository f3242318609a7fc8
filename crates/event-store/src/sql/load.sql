SELECT e.stream_id, e.version, e.envelope
FROM unnest($1::uuid[], $2::bigint[]) AS w (stream_id, after)
JOIN es.events AS e ON e.stream_id = w.stream_id AND e.version > w.after
ORDER BY e.stream_id, e.version
LIMIT $3
