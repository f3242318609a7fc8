INSERT INTO bench_keys (n, key, tail) SELECT u.n - 1, u.key, u.tail FROM unnest($1::uuid[], $2::bytea[]) WITH ORDINALITY AS u (key, tail, n)
