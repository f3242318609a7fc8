-- Who is in a transaction of this database and has done nothing for so many milliseconds.
SELECT
    coalesce(a.usename, '') AS user, coalesce(a.application_name, '') AS application,
    (extract(EPOCH FROM clock_timestamp() - a.state_change) * 1000)::bigint AS idle_ms
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%'
    AND a.state_change < clock_timestamp() - make_interval(secs => $1::bigint / 1000.0)
ORDER BY a.pid
