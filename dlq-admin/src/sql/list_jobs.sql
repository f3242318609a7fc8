-- Jobs before number $1, in state $2 where it is not null, newest first, $3 at most; without their parts.
SELECT j.*, '[]' AS parts_text FROM ops.job AS j WHERE j.id < $1 AND ($2::text IS NULL OR j.state = $2) ORDER BY j.id DESC LIMIT $3
