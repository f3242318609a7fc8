INSERT INTO reactor.effect
    (effect_id, reactor, topic, partition, record_offset, ordinal, event_id, key, decided_at, traceparent, effect, state)
SELECT e.effect_id, $1, $2, $3, e.record_offset, e.ordinal, e.event_id, e.key, e.decided_at, e.traceparent, e.effect,
    CASE WHEN e.expired THEN 'expired' ELSE 'pending' END
FROM unnest($4::uuid[], $5::bigint[], $6::integer[], $7::uuid[], $8::uuid[], $9::timestamptz[], $10::text[], $11::bytea[], $12::boolean[])
    WITH ORDINALITY AS e (effect_id, record_offset, ordinal, event_id, key, decided_at, traceparent, effect, expired, place)
ORDER BY e.place
ON CONFLICT (effect_id) DO NOTHING
RETURNING effect_id
