-- $1 topic, $2 partition.
SELECT p.epoch, p.next_offset FROM ops.take_partition($1, $2) AS p
