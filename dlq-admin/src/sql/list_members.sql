-- Members of job $1 behind ordinal $2, in state $3 where it is not null, $4 at most.
SELECT m.ordinal, ops.letter_name(l) AS name, m.state, m.code, m.reason, m.records, m.changed_at
FROM ops.job_member AS m JOIN ops.dead_letter AS l ON l.id = m.letter_id
WHERE m.job_id = $1 AND m.ordinal > $2 AND ($3::text IS NULL OR m.state = $3)
ORDER BY m.ordinal
LIMIT $4
