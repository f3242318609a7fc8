-- Events of a store with the state of their outbox rows; what is null is not asked for. $7 are bytes that an envelope has to hold.
SELECT
    e.seq, e.stream_id, e.version, e.event_id, e.event_type, e.recorded_at, e.envelope, s.partition_key, q.state AS quarantine,
    (
        pg_visible_in_snapshot(e.xid, c.s1)
        OR (c.s2 IS NOT NULL AND pg_visible_in_snapshot(e.xid, c.s2) AND e.seq <= c.acked_seq)
    ) AS passed
FROM es.events AS e
JOIN es.streams AS s ON s.stream_id = e.stream_id
CROSS JOIN outbox.cursor AS c
LEFT JOIN outbox.quarantine AS q ON q.seq = e.seq
WHERE ($1::uuid IS NULL OR e.stream_id = $1)
    AND ($2::uuid IS NULL OR s.partition_key = $2)
    AND ($3::timestamptz IS NULL OR e.recorded_at >= $3)
    AND ($4::timestamptz IS NULL OR e.recorded_at < $4)
    AND ($5::smallint IS NULL OR e.event_type = $5)
    AND ($6::uuid IS NULL OR e.event_id = $6)
    AND ($7::bytea IS NULL OR position($7 IN e.envelope) > 0)
    AND ($8::bigint IS NULL OR e.version >= $8)
    AND e.seq > $9::bigint
ORDER BY e.seq
LIMIT $10::bigint
