-- $1 job, $2 who, $3 why.
SELECT c.outcome, c.culprit FROM ops.cancel_job($1, $2, $3) AS c
