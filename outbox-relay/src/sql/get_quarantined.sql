-- The row with seq $1, with the first $2 bytes of its payload.
SELECT
    q.seq, q.state, q.code, q.reason, q.refusals, q.topic, q.key, octet_length(q.payload)::bigint AS payload_bytes, q.recorded_at, q.quarantined_at,
    q.changed_at, q.epoch, substring(q.payload FOR $2::integer) AS payload, q.headers
FROM outbox.quarantine AS q
WHERE q.seq = $1::bigint
