-- What jobs have come to with each dead letter.
SELECT m.letter_id, m.job_id, m.state, m.records FROM ops.job_member AS m ORDER BY m.job_id, m.ordinal
