COPY stream_version (generation, stream_id, version, event_id) FROM STDIN (FORMAT binary)
