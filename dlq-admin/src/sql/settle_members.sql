-- $1 job, $2 epoch; of each member that is settled: $3 ordinal, $4 state, $5 code, $6 reason, $7 records; $8 what keeps others from being settled.
SELECT ops.settle_members($1, $2, $3, $4, $5, $6, $7, $8)
