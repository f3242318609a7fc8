-- Open dead letters of consumer group $1 behind number $2, $3 at most, with what tells whether they change, and the moment at which that was so.
SELECT
    l.id, l.topic, l.partition, l.record_offset, l.revision, l.last_failed_at, statement_timestamp() AS asked,
    ops.job_of(l.id) IS NOT NULL AS is_in_job
FROM ops.dead_letter AS l
WHERE l.state = 'open' AND l.consumer_group = $1 AND l.id > $2
ORDER BY l.id
LIMIT $3
