-- The partitions of which somebody wants a dead letter drained; null among them where there are dead letters at all.
(SELECT DISTINCT d.partition FROM dead_letter AS d WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.wished_at IS NOT NULL)
UNION ALL
(SELECT NULL FROM dead_letter AS d WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 LIMIT 1)
