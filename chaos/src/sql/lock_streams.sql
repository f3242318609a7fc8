-- Locks $2 streams from $1 on, so that whoever appends to one of them waits.
SELECT s.stream_id FROM es.streams AS s WHERE s.stream_id >= $1 ORDER BY s.stream_id LIMIT $2 FOR UPDATE
