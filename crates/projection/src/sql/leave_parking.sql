-- What is parked behind dead letters $5, up to offsets $6, leaves its queue.
DELETE FROM parked_record AS p
USING unnest($5::bigint[], $6::bigint[]) AS w (head, through), dead_letter AS d
WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4 AND d.record_offset = w.head
    AND p.projection = $1 AND p.generation = $2 AND p.topic = $3 AND p.partition = $4 AND p.key_hash = d.key_hash AND p.record_offset <= w.through
