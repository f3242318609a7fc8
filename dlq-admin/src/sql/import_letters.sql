-- $1 the dead letters as JSON, $2 how many lines they came in, $3 who, $4 why.
SELECT ops.import_letters($1, $2, $3, $4)
