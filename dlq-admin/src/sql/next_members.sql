-- $1 job, $2 epoch, $3 members at most, $4 who.
SELECT m.outcome, m.consumer_group, m.ordinals, m.topics, m.partitions, m.offsets, m.resent FROM ops.next_members($1, $2, $3, $4) AS m
