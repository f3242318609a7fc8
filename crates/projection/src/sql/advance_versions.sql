-- A stream is in one partition, whose checkpoint this transaction holds, so nobody else adds the row meanwhile.
MERGE INTO stream_version AS s
USING unnest($2::uuid[], $3::bigint[], $4::uuid[]) AS v (stream_id, version, event_id) ON s.stream_id = v.stream_id AND s.generation = $1
WHEN MATCHED THEN UPDATE SET version = v.version, event_id = v.event_id
WHEN NOT MATCHED THEN INSERT (generation, stream_id, version, event_id) VALUES ($1, v.stream_id, v.version, v.event_id)
