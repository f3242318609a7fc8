INSERT INTO dead_letter (
    projection, generation, topic, partition, record_offset, group_id, key, value, headers, written_at, streams, event_type, event_id, stage, code, reason,
    first_code, first_reason, attempts, first_failed_at, last_failed_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $15, $16, $17, $18, $19)
