-- A transaction that ends after hours makes the next read skip all that was written since it began, which may take its time.
SET statement_timeout = '300s';
-- The relay's reads must go by the index on seq, whatever the planner thinks of tables that were never analysed, and be planned once.
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_sort = off;
SET jit = off;
SET plan_cache_mode = force_generic_plan;
