-- $1 job, $2 epoch, $3 members at most, $4 the ordinal that they are behind.
SELECT m.outcome, m.consumer_group, m.ordinals, m.topics, m.partitions, m.offsets, m.resent FROM ops.further_members($1, $2, $3, $4) AS m
