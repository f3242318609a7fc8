-- Keeps a snapshot, and no transaction id.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM es.streams;
