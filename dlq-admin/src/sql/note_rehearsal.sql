-- $1 job, $2 who, $3 why, $4 what came of it.
SELECT ops.note_rehearsal($1, $2, $3, $4)
