-- A transaction takes its snapshot with the first statement that needs one.
SELECT pg_current_snapshot()
