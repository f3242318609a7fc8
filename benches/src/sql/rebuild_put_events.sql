COPY es.events (seq, stream_id, version, event_id, event_type, envelope) FROM STDIN (FORMAT binary)
