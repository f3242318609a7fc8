INSERT INTO outbox.r0 (topic, key, payload) SELECT 3, u.key, u.payload FROM unnest($1::uuid[], $2::bytea[]) AS u (key, payload)
