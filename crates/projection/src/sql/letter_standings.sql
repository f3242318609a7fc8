-- How dead letters of partitions $4 and offsets $5 stand, in their order. Each is looked up by itself, as in claim_letters.
SELECT
    EXISTS (SELECT FROM generation AS g WHERE g.projection = $1 AND g.generation = $2) AS has_generation,
    d.is_held, c.next_offset > a.record_offset AS is_passed, e.discarded, e.applied_records, e.blocked_by, e.ended_at, e.wished_by
FROM unnest($4::integer[], $5::bigint[]) WITH ORDINALITY AS a (partition, record_offset, place)
LEFT JOIN LATERAL (
    SELECT true AS is_held FROM dead_letter AS l
    WHERE l.projection = $1 AND l.generation = $2 AND l.topic = $3 AND l.partition = a.partition AND l.record_offset = a.record_offset
    LIMIT 1
) AS d ON true
LEFT JOIN LATERAL (
    SELECT l.next_offset FROM checkpoint AS l
    WHERE l.projection = $1 AND l.generation = $2 AND l.topic = $3 AND l.partition = a.partition
    LIMIT 1
) AS c ON true
LEFT JOIN LATERAL (
    SELECT * FROM dead_letter_end AS l
    WHERE l.projection = $1 AND l.generation = $2 AND l.topic = $3 AND l.partition = a.partition AND l.record_offset = a.record_offset
    LIMIT 1
) AS e ON true
ORDER BY a.place
