-- The first members of job $1 that were not settled, $2 at most.
SELECT l.consumer_group, ops.letter_name(l) AS name
FROM ops.job_member AS m JOIN ops.dead_letter AS l ON l.id = m.letter_id
WHERE m.job_id = $1 AND m.state IN ('waiting', 'sent')
ORDER BY m.ordinal
LIMIT $2
