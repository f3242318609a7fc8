-- $2 whether to pause, $3 who, $4 why.
SELECT set_paused($1, $2, $3, $4)
