-- Records of topic $1 that wait behind dead letters of their keys: $2 partitions, $3 offsets, $4 keys, $5 values; $6 and $7 are not kept of them.
INSERT INTO projection.parked_record (projection, generation, topic, partition, key_hash, record_offset, key, value, headers, written_at)
SELECT
    'inventory', 1, $1::text, l.partition, sha256(convert_to(l.key, 'UTF8')), l.record_offset, convert_to(l.key, 'UTF8'), l.value, '',
    now() - interval '1 day'
FROM unnest($2::integer[], $3::bigint[], $4::text[], $5::bytea[], $6::uuid[], $7::uuid[]) AS l (partition, record_offset, key, value, stream, event_id)
