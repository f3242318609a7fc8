COPY (SELECT xid, seq, recorded_at, topic, key, headers, payload FROM outbox.r0) TO STDOUT (FORMAT binary)
