-- Dead letters $5 are done, after $6 records more; those in $7 took their place, if any.
WITH gone AS (
    DELETE FROM dead_letter AS d
    USING unnest($5::bigint[], $6::bigint[], $7::bigint[]) AS w (record_offset, applied, blocked_by)
    WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4 AND d.record_offset = w.record_offset
    RETURNING d.record_offset, d.discard, d.applied_records + w.applied AS applied, w.blocked_by, d.wished_by, d.wish_reason
)
INSERT INTO dead_letter_end (
    projection, generation, topic, partition, record_offset, discarded, applied_records, blocked_by, wished_by, wish_reason
)
SELECT $1, $2, $3, $4, g.record_offset, g.discard, g.applied, g.blocked_by, coalesce(g.wished_by, ''), coalesce(g.wish_reason, '')
FROM gone AS g
