-- Takes the lease if it is free: nobody has it, it has expired, or the session that its holder keeps it with has ended. In the same statement the
-- cursor gets the new epoch, which fences the holder before: its writes name the old one.
-- $1 the taker, $2 how long the lease holds, in milliseconds.
WITH taken AS (
    UPDATE outbox.lease AS l
    SET owner = $1, epoch = l.epoch + 1, expires_at = clock_timestamp() + $2::bigint * interval '1 millisecond',
        backend_pid = pg_backend_pid(),
        backend_start = (SELECT a.backend_start FROM pg_stat_activity AS a WHERE a.pid = pg_backend_pid())
    WHERE l.owner IS NULL OR l.expires_at <= clock_timestamp() OR NOT EXISTS (
        -- The start of a session is not shown to every role; then the process id has to do.
        SELECT FROM pg_stat_activity AS a
        WHERE a.pid = l.backend_pid AND (a.backend_start = l.backend_start) IS NOT FALSE
    )
    RETURNING l.epoch
)
UPDATE outbox.cursor AS c SET epoch = t.epoch
FROM taken AS t
RETURNING
    c.epoch, c.s1, c.xip_floors, c.mark_xids, c.mark_floors, c.s2, c.s2_mark_xid, c.s2_mark_floor, c.acked_seq,
    pg_current_snapshot() AS now, c.tail_topics, c.tail_partitions, c.tail_offsets, c.tail_ends
