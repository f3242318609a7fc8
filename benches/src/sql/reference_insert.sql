WITH e AS (
    INSERT INTO es.events (seq, stream_id, version, event_id, event_type, envelope)
    VALUES (nextval('outbox.seq'), gen_random_uuid(), 1, gen_random_uuid(), 104, decode(repeat('ab', ENVELOPE_BYTES), 'hex'))
    RETURNING seq, stream_id, envelope
)
INSERT INTO outbox.r0 (seq, topic, key, payload) SELECT seq, 3, stream_id, envelope FROM e;
