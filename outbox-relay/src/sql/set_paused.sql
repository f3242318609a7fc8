-- $1 who, $2 why, $3 whether to pause.
SELECT outbox.set_paused($1, $2, $3)
