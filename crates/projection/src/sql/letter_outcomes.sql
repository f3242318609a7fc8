-- What became of dead letters of partitions $4 and offsets $5, in their order.
SELECT
    a.place, d.state, d.code, d.reason, d.replay_count, e.discarded, e.applied_records, e.blocked_by, e.ended_at, e.wished_by
FROM unnest($4::integer[], $5::bigint[]) WITH ORDINALITY AS a (partition, record_offset, place)
LEFT JOIN dead_letter AS d
    ON d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = a.partition AND d.record_offset = a.record_offset
LEFT JOIN dead_letter_end AS e
    ON e.projection = $1 AND e.generation = $2 AND e.topic = $3 AND e.partition = a.partition AND e.record_offset = a.record_offset
ORDER BY a.place
