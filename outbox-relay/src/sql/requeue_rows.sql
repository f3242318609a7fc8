-- $1 who, $2 why, $3 the rows or null, $4 key, $5 topic and $6 code of rows, each or null.
SELECT r.outcome, r.culprit, r.changed FROM outbox.requeue_rows($1, $2, $3, $4, $5, $6) AS r
