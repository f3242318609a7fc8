-- A row of the transaction's own.
SELECT public.bench_write(ARRAY(SELECT k.key FROM bench_keys AS k WHERE k.n = 0), NULL, ARRAY(SELECT int4send(0) || k.tail FROM bench_keys AS k WHERE k.n = 0))
