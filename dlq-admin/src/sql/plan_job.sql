-- $1 what to do; names, or null: $2 consumer groups, $3 topics, $4 partitions, $5 offsets; filter: $6 group, $7 code, $8 event type, $9 topic,
-- $10 consumer group, $11 key, $12 from, $13 before; $14 how often replayed in vain is too often, $15 members at most, $16 what stands in the audit
-- as what was done and $17 to what, $18 who, $19 why.
SELECT p.outcome, p.culprit, p.job_id
FROM ops.plan_job($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) AS p
