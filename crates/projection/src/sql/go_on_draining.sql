-- Of dead letters $5, $6 records more are done; the rest of their queues follows. Each is looked up by itself, as in claim_letters.
UPDATE dead_letter AS d SET state = 'draining', applied_records = d.applied_records + w.applied, revision = d.revision + 1
FROM unnest($5::bigint[], $6::bigint[]) AS w (record_offset, applied)
CROSS JOIN LATERAL (
    SELECT l.ctid AS place FROM dead_letter AS l
    WHERE l.projection = $1 AND l.generation = $2 AND l.topic = $3 AND l.partition = $4 AND l.record_offset = w.record_offset
    LIMIT 1
) AS q
WHERE d.ctid = q.place
