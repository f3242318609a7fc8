-- $1 who, $2 why, $3 the epoch or 0.
SELECT r.outcome, r.held FROM outbox.step_down($1, $2, $3) AS r
