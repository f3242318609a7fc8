-- The events of all streams, as bytes like those of a real one: what is in an envelope beside its payload is not read when a stream is loaded.
INSERT INTO es.events (seq, stream_id, version, event_id, event_type, envelope)
SELECT nextval('outbox.seq'), s.stream_id, v.version, gen_random_uuid(), 104, $1::bytea
FROM (SELECT s.stream_id FROM es.streams AS s ORDER BY s.stream_id) AS s, generate_series(1, 10) AS v (version)
