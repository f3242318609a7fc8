-- Writes rows as es.append does: into the outbox table whose turn it is.
CREATE FUNCTION public.bench_write(keys uuid[], row_headers bytea, payloads bytea[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    target smallint;
BEGIN
    SELECT r.current INTO target FROM outbox.rotation AS r;
    IF target = 0 THEN
        INSERT INTO outbox.r0 (topic, key, headers, payload) SELECT 3, u.key, row_headers, u.payload FROM unnest(keys, payloads) AS u (key, payload);
    ELSIF target = 1 THEN
        INSERT INTO outbox.r1 (topic, key, headers, payload) SELECT 3, u.key, row_headers, u.payload FROM unnest(keys, payloads) AS u (key, payload);
    ELSE
        INSERT INTO outbox.r2 (topic, key, headers, payload) SELECT 3, u.key, row_headers, u.payload FROM unnest(keys, payloads) AS u (key, payload);
    END IF;
END
$$
