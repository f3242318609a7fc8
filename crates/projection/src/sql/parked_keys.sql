-- The keys that have a dead letter; and how long ago it failed first, in milliseconds, where that is less than a minute.
SELECT d.key, CASE WHEN d.first_failed_at > clock_timestamp() - interval '1 minute'
    THEN (extract(epoch FROM clock_timestamp() - d.first_failed_at) * 1000)::bigint END AS age_ms
FROM dead_letter AS d
WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4
ORDER BY d.first_failed_at
