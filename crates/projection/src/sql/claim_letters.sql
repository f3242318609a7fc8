-- Dead letters $5 that have revisions $6 still.
SELECT count(*)
FROM (
    SELECT FROM unnest($5::bigint[], $6::bigint[]) AS w (record_offset, revision)
    JOIN dead_letter AS d
        ON d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4 AND d.record_offset = w.record_offset
        AND d.revision = w.revision AND d.wished_at IS NOT NULL
    FOR NO KEY UPDATE OF d
) AS claimed
