-- Dead letters of topic $1, of four kinds of failure in turn: $2 partitions, $3 offsets, $4 keys, $5 values.
SELECT ops.put_letters((
    SELECT jsonb_agg(jsonb_build_object(
        'consumer_group', $1::text || '.g1', 'topic', $1::text, 'partition', l.partition, 'record_offset', l.record_offset, 'state', 'open',
        'code', (ARRAY['UNDECODABLE_RECORD', 'UNKNOWN_TYPE', 'READ_MODEL_REFUSED', 'VERSION_GAP'])[1 + l.record_offset % 4],
        'event_type', (ARRAY['', 'field_317', 'item_sent', 'item_granted'])[1 + l.record_offset % 4],
        'disposition', 'poison_domain', 'reason', 'a row was refused', 'stage', 'persist', 'first_code', 'READ_MODEL_REFUSED',
        'first_reason', 'a row was refused', 'attempts', 3, 'replay_count', 0, 'key_text', l.key,
        'key', encode(convert_to(l.key, 'UTF8'), 'base64'), 'value', encode(l.value, 'base64'),
        'header_keys', '[]'::jsonb, 'header_values', '[]'::jsonb, 'recorded_at', now() - interval '1 day',
        'first_failed_at', now() - interval '1 hour', 'last_failed_at', now() - interval '1 hour', 'app_version', '0.1.0', 'traceparent', ''
    ))
    FROM unnest($2::integer[], $3::bigint[], $4::text[], $5::bytea[]) AS l (partition, record_offset, key, value)
))
