-- $1 who, $2 what, $3 to what, $4 why, $5 DONE or the reason of the refusal, $6 what came of it.
SELECT ops.record_audit($1, $2, $3, $4, $5, $6)
