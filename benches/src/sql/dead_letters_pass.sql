-- The checkpoints of topic $1 are behind all that is parked.
INSERT INTO projection.checkpoint (projection, generation, topic, partition, epoch, next_offset)
SELECT 'inventory', 1, $1::text, p.partition, 1, max(p.record_offset) + 1
FROM (
    SELECT d.partition, d.record_offset FROM projection.dead_letter AS d
    UNION ALL SELECT r.partition, r.record_offset FROM projection.parked_record AS r
) AS p
GROUP BY p.partition
