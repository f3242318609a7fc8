SELECT s.stream_id, s.partition_key, s.version FROM es.streams AS s ORDER BY s.stream_id
