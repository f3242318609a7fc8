-- Locks $2 streams, which ones is $1's to decide, so that whoever appends to one of them waits.
SELECT s.stream_id FROM es.streams AS s ORDER BY md5(concat($1::uuid, s.stream_id)) LIMIT $2 FOR UPDATE
