-- Rows in quarantine behind seq $1, by key $2, topic $3, state $4 and code $5 where they are not null, $6 rows at most. Their bytes stay here.
SELECT
    q.seq, q.state, q.code, q.reason, q.refusals, q.topic, q.key, octet_length(q.payload)::bigint AS payload_bytes, q.recorded_at, q.quarantined_at,
    q.changed_at, q.epoch
FROM outbox.quarantine AS q
WHERE q.seq > $1::bigint AND ($2::uuid IS NULL OR q.key = $2) AND ($3::smallint IS NULL OR q.topic = $3) AND ($4::text IS NULL OR q.state = $4)
    AND ($5::text IS NULL OR q.code = $5)
ORDER BY q.seq
LIMIT $6::bigint
