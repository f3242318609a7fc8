-- Of dead letters $5, $6 records more are done; the rest of their queues follows.
UPDATE dead_letter AS d SET state = 'draining', applied_records = d.applied_records + w.applied, revision = d.revision + 1
FROM unnest($5::bigint[], $6::bigint[]) AS w (record_offset, applied)
WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4 AND d.record_offset = w.record_offset
