-- The streams of one block: one page is read, however many there are.
SELECT s.stream_id, s.partition_key, s.version
FROM es.streams AS s
WHERE s.ctid >= format('(%s,0)', $1::bigint)::tid AND s.ctid < format('(%s,0)', $1::bigint + 1)::tid AND s.version > 0
