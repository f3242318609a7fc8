-- Dead letters $5 that have revisions $6 still. Each is looked up by itself: the planner knows nothing of a table that was empty a moment ago.
SELECT count(*)
FROM unnest($5::bigint[], $6::bigint[]) AS w (record_offset, revision)
CROSS JOIN LATERAL (
    SELECT d.record_offset FROM dead_letter AS d
    WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4 AND d.record_offset = w.record_offset
        AND d.revision = w.revision AND d.wished_at IS NOT NULL
    LIMIT 1
    FOR NO KEY UPDATE
) AS claimed
