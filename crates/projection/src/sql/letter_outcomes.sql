-- What became of dead letters of partitions $4 and offsets $5, in their order. Each is looked up by itself, as in claim_letters.
SELECT
    a.place, d.state, d.code, d.reason, d.replay_count, e.discarded, e.applied_records, e.blocked_by
FROM unnest($4::integer[], $5::bigint[]) WITH ORDINALITY AS a (partition, record_offset, place)
LEFT JOIN LATERAL (
    SELECT * FROM dead_letter AS l
    WHERE l.projection = $1 AND l.generation = $2 AND l.topic = $3 AND l.partition = a.partition AND l.record_offset = a.record_offset
    LIMIT 1
) AS d ON true
LEFT JOIN LATERAL (
    SELECT * FROM dead_letter_end AS l
    WHERE l.projection = $1 AND l.generation = $2 AND l.topic = $3 AND l.partition = a.partition AND l.record_offset = a.record_offset
    LIMIT 1
) AS e ON true
ORDER BY a.place
