-- $1 topic, $2 partition, $3 epoch, $4 the offset that it stands at, $5 the offset that it is to stand at, $6 who, $7 why.
SELECT ops.reposition($1, $2, $3, $4, $5, $6, $7)
