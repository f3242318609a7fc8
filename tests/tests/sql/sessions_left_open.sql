-- Sessions of this database that hold a transaction though nobody works in it, failed ones included.
SELECT count(*)
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%'
