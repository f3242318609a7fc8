-- Dead letters $5 are done, after $6 records more; those in $7 took their place, if any. Each is looked up by itself, as in claim_letters.
WITH gone AS (
    DELETE FROM dead_letter AS d
    USING unnest($5::bigint[], $6::bigint[], $7::bigint[]) AS w (record_offset, applied, blocked_by)
    CROSS JOIN LATERAL (
        SELECT l.ctid AS place FROM dead_letter AS l
        WHERE l.projection = $1 AND l.generation = $2 AND l.topic = $3 AND l.partition = $4 AND l.record_offset = w.record_offset
        LIMIT 1
    ) AS q
    WHERE d.ctid = q.place
    RETURNING d.record_offset, d.discard, d.applied_records + w.applied AS applied, w.blocked_by, d.wished_by, d.wish_reason
)
INSERT INTO dead_letter_end (
    projection, generation, topic, partition, record_offset, discarded, applied_records, blocked_by, wished_by, wish_reason
)
SELECT $1, $2, $3, $4, g.record_offset, g.discard, g.applied, g.blocked_by, coalesce(g.wished_by, ''), coalesce(g.wish_reason, '')
FROM gone AS g
-- Where a position was set back, the same record may have ended before: what counts is how it ended last.
ON CONFLICT (projection, generation, topic, partition, record_offset) DO UPDATE SET
    discarded = excluded.discarded, applied_records = excluded.applied_records, blocked_by = excluded.blocked_by, wished_by = excluded.wished_by,
    wish_reason = excluded.wish_reason, ended_at = excluded.ended_at
