-- $1 who, $2 why, $3 the rows.
SELECT r.outcome, r.culprit, r.changed FROM outbox.skip_rows($1, $2, $3) AS r
