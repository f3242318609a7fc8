-- $1 job, $2 members a second, $3 members at most, $4 whether forced, $5 what stands in the audit as what was done, $6 who, $7 why.
SELECT a.outcome, a.culprit, a.number FROM ops.apply_job($1, $2, $3, $4, $5, $6, $7) AS a
