-- $1 the epoch, $2 who, $3 what was noticed, $4 what it means, $5 whether rows are numbered anew.
SELECT outbox.rebase($1, $2, $3, $4, $5)
