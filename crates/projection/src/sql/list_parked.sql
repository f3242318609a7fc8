-- Dead letters behind ($6, $7, $8), $9 at most. $2: of a generation, 0 for all; $3: a state, $4: a key, $5: a code; null for all.
SELECT
    d.generation, d.topic, d.partition, d.record_offset, d.group_id, d.key, d.state, d.stage, d.code, d.reason, d.first_code, d.first_reason,
    d.event_type, d.event_id, d.attempts, d.replay_count, d.written_at, d.first_failed_at, d.last_failed_at, octet_length(d.value)::bigint AS value_size,
    (
        SELECT count(*) FROM parked_record AS p
        WHERE p.projection = d.projection AND p.generation = d.generation AND p.topic = d.topic AND p.partition = d.partition
            AND p.key_hash = d.key_hash
    ) AS parked_records
FROM dead_letter AS d
WHERE d.projection = $1
    AND ($2::integer = 0 OR d.generation = $2::integer)
    AND ($3::text IS NULL OR d.state = $3::text)
    AND ($4::bytea IS NULL OR d.key = $4::bytea)
    AND ($5::text IS NULL OR d.code = $5::text)
    AND (d.generation, d.partition, d.record_offset) > ($6::integer, $7::integer, $8::bigint)
ORDER BY d.generation, d.partition, d.record_offset
LIMIT $9
