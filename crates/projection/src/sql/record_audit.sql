-- $2 who, $3 what, $4 to what, $5 why, $6 the reason of the refusal, $7 its text.
SELECT record_audit($1, $2, $3, $4, $5, $6, $7)
