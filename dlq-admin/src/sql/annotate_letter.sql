-- $1 consumer group, $2 topic, $3 partition, $4 offset, $5 note, $6 what stands in the audit as target, $7 who, $8 why.
SELECT ops.annotate_letter($1, $2, $3, $4, $5, $6, $7, $8)
