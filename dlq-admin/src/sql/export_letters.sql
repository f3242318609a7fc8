-- Dead letters with their bytes as lines of JSON: behind number $1, by state $2, code $3, event type $4, topic $5, consumer group $6, key $7, last
-- failure from $8 to before $9, and group $10 where they are not null, $11 at most.
SELECT l.id, jsonb_build_object(
    'consumer_group', l.consumer_group, 'topic', l.topic, 'partition', l.partition, 'record_offset', l.record_offset, 'state', l.state, 'code', l.code,
    'event_type', l.event_type, 'disposition', l.disposition, 'reason', l.reason, 'stage', l.stage, 'first_code', l.first_code,
    'first_reason', l.first_reason, 'attempts', l.attempts, 'replay_count', l.replay_count, 'event_id', l.event_id, 'stream_id', l.stream_id,
    'version', l.version, 'key_text', l.key_text, 'key', translate(encode(r.key, 'base64'), E'\n', ''),
    'value', translate(encode(r.value, 'base64'), E'\n', ''), 'header_keys', to_jsonb(r.header_keys),
    'header_values', (
        SELECT coalesce(jsonb_agg(translate(encode(h.value, 'base64'), E'\n', '') ORDER BY h.at), '[]')
        FROM unnest(r.header_values) WITH ORDINALITY AS h (value, at)
    ),
    'recorded_at', l.recorded_at, 'first_failed_at', l.first_failed_at, 'last_failed_at', l.last_failed_at, 'app_version', l.app_version,
    'traceparent', l.traceparent
)::text AS line
FROM ops.letter AS l JOIN ops.dead_letter_record AS r ON r.id = l.id
WHERE l.id > $1::bigint AND ($2::text IS NULL OR l.state = $2) AND ($3::text IS NULL OR l.code = $3)
    AND ($4::text IS NULL OR l.event_type = $4) AND ($5::text IS NULL OR l.topic = $5) AND ($6::text IS NULL OR l.consumer_group = $6)
    AND ($7::text IS NULL OR l.key_text = $7) AND ($8::timestamptz IS NULL OR l.last_failed_at >= $8)
    AND ($9::timestamptz IS NULL OR l.last_failed_at < $9) AND ($10::bigint IS NULL OR l.group_id = $10)
ORDER BY l.id
LIMIT $11::bigint
