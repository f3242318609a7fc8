-- The events of streams $1 beyond versions $2, in the order in which they are folded, so many at most; and whether this is a copy that may be behind.
SELECT e.stream_id, e.version, e.envelope, pg_is_in_recovery() AS is_standby
FROM unnest($1::uuid[], $2::bigint[]) AS s (stream_id, version)
JOIN es.events AS e ON e.stream_id = s.stream_id AND e.version > s.version
ORDER BY e.stream_id, e.version
LIMIT $3
