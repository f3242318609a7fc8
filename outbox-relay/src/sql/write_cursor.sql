-- Moves the cursor, if the epoch is still this relay's. A take-over writes the cursor's row too, so of two that meet here one waits for the
-- other and then sees the epoch that it left.
UPDATE outbox.cursor AS c
SET s1 = $2, xip_floors = $3, mark_xids = $4, mark_floors = $5, s2 = $6, s2_mark_xid = $7, s2_mark_floor = $8, acked_seq = $9,
    tail_topics = $10, tail_partitions = $11, tail_offsets = $12, tail_ends = $13, updated_at = clock_timestamp()
FROM outbox.lease AS l
WHERE c.epoch = $1 AND l.epoch = $1
