-- $2 players who own a stream with events, which ones is $1's to decide, with what their streams are and how far.
SELECT s.partition_key, s.stream_id, s.version FROM es.streams AS s WHERE s.version > 0 ORDER BY md5(concat($1::uuid, s.stream_id)) LIMIT $2
