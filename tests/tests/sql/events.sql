-- How many events a player's stream has, and its version.
SELECT count(e.version), max(s.version)
FROM es.streams AS s
JOIN es.events AS e ON e.stream_id = s.stream_id
WHERE s.partition_key = $1
