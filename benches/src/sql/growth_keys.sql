-- $1 keys of the last hour, with answers of usual size.
INSERT INTO es.command_dedup (key, scope, fingerprint, outcome, reply)
SELECT
    (lpad(to_hex((extract(epoch FROM now()) * 1000)::bigint - 1 - g.n % 3600000), 12, '0') || '7' || substr(md5(g.n::text), 1, 19))::uuid,
    decode(repeat('02', 16), 'hex'), decode(repeat('03', 40), 'hex'), 0, decode(repeat('04', 48), 'hex')
FROM generate_series(1, $1::integer) AS g (n)
