-- Streams $1 of players $2 are at versions $3.
INSERT INTO es.streams (stream_id, category, partition_key, version)
SELECT s.stream_id, 0, s.partition_key, s.version FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) AS s (stream_id, partition_key, version)
ON CONFLICT (stream_id) DO UPDATE SET version = excluded.version
