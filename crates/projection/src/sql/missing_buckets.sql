-- The parts of the event store that are not in the generation yet.
SELECT s.bucket, r.part_firsts[s.bucket + 1] AS first, r.part_lasts[s.bucket + 1] AS last
FROM rebuild AS r CROSS JOIN generate_series(0, r.buckets - 1) AS s (bucket)
WHERE r.projection = $1 AND r.generation = $2 AND r.phase = 'scanning' AND NOT EXISTS (
    SELECT FROM rebuilt_bucket AS b WHERE b.projection = $1 AND b.generation = $2 AND b.bucket = s.bucket
)
ORDER BY s.bucket
