INSERT INTO stream_version (generation, stream_id, version)
SELECT $1, v.stream_id, v.version FROM unnest($2::uuid[], $3::bigint[]) AS v (stream_id, version)
ON CONFLICT (generation, stream_id) DO UPDATE SET version = excluded.version
