-- Dead letters $5 that have revisions $6 still. Each is looked up by itself: the planner knows nothing of a table that was empty a moment ago. That it is
-- wished is asked of what was found: asked with the rest, the index of the wishes is taken, and all of them are read for each.
SELECT count(*) FILTER (WHERE claimed.wished_at IS NOT NULL)
FROM unnest($5::bigint[], $6::bigint[]) AS w (record_offset, revision)
CROSS JOIN LATERAL (
    SELECT d.wished_at FROM dead_letter AS d
    WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4 AND d.record_offset = w.record_offset
        AND d.revision = w.revision
    LIMIT 1
    FOR NO KEY UPDATE
) AS claimed
