-- $1 when they were read; of each dead letter: $2 number, $3 revision, $4 last failure, $5 state, $6 when it ended, $7 what is said of that; $8 who,
-- $9 why.
SELECT s.state, s.letters FROM ops.settle_ended($1, $2, $3, $4, $5, $6, $7, $8, $9) AS s
