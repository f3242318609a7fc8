-- $1 job.
SELECT j.*, j.parts::text AS parts_text FROM ops.job AS j WHERE j.id = $1
