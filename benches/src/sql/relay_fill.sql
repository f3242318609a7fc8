-- Rows $1 up to $2, each included, with the headers $3, on $4 keys in turn. Only before a relay has ever let the tables take turns.
INSERT INTO outbox.r0 (topic, key, headers, payload)
SELECT 3, k.key, $3::bytea, int4send(g.n) || k.tail
FROM generate_series($1::integer, $2::integer) AS g (n) JOIN bench_keys AS k ON k.n = g.n % $4::integer
ORDER BY g.n
