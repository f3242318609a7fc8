-- $2 who, $3 what, $4 to what, $5 why, $6 the reasons for which nothing was done, one for each.
SELECT record_audit($1, $2, $3, absent.target, $5, absent.outcome, '') FROM unnest($4::text[], $6::text[]) AS absent (target, outcome)
