-- $1 the epoch; then for each row its seq, its state, whether later rows of its key wait for it, the code and the reason.
SELECT outbox.quarantine_rows($1, $2, $3, $4, $5, $6)
