-- $1 for how long nobody else asks, in milliseconds.
SELECT i.consumer_group, i.behind FROM ops.take_inquiry($1) AS i
