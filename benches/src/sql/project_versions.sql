SELECT stream_id, version FROM stream_version WHERE generation = 1
