-- Records of topic $1 that became dead letters: $2 partitions, $3 offsets, $4 keys, $5 values, $6 streams, $7 events.
INSERT INTO projection.dead_letter (
    projection, generation, topic, partition, record_offset, group_id, key, value, headers, written_at, streams, event_type, event_id, stage, code,
    reason, first_code, first_reason, attempts, first_failed_at, last_failed_at
)
SELECT
    'inventory', 1, $1::text, l.partition, l.record_offset, $1::text || '.g1', convert_to(l.key, 'UTF8'), l.value, '', now() - interval '1 day',
    ARRAY[l.stream], 201, l.event_id, 'persist', 'READ_MODEL_REFUSED', 'a row was refused', 'READ_MODEL_REFUSED', 'a row was refused', 3,
    now() - interval '1 hour', now() - interval '1 hour'
FROM unnest($2::integer[], $3::bigint[], $4::text[], $5::bytea[], $6::uuid[], $7::uuid[]) AS l (partition, record_offset, key, value, stream, event_id)
