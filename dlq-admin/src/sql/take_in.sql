-- $1 topic, $2 partition, $3 epoch, $4 the offset of the first record, $5 the offset behind the last, $6 the dead letters as JSON.
SELECT ops.take_in($1, $2, $3, $4, $5, $6)
