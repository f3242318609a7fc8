SELECT public.bench_write($1, $2, $3)
