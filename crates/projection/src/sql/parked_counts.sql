SELECT
    count(*) AS letters, count(d.key_hash) AS keys, min(d.first_failed_at) AS oldest_at,
    (SELECT count(*) FROM parked_record AS p WHERE p.projection = $1 AND p.generation = $2 AND p.topic = $3) AS records
FROM dead_letter AS d
WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3
