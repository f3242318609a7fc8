-- $1 consumer groups, $2 topics, $3 partitions, $4 offsets, $5 whether the consumer has the record, $6 what stands in the audit as target, $7 who, $8 why.
SELECT r.outcome, r.culprit FROM ops.restore_letters($1, $2, $3, $4, $5, $6, $7, $8) AS r
