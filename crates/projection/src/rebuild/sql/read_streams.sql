-- The streams, with how many events each has.
SELECT s.stream_id, s.version FROM es.streams AS s WHERE s.version > 0 ORDER BY s.stream_id
