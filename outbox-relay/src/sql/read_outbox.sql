-- What the database knows of the outbox's relaying.
SELECT
    l.owner, l.epoch, l.expires_at, coalesce(l.owner IS NOT NULL AND l.expires_at > clock_timestamp(), false) AS is_held,
    c.s1::text AS position, c.updated_at, r.current,
    pg_relation_size('outbox.r0') AS r0, pg_relation_size('outbox.r1') AS r1, pg_relation_size('outbox.r2') AS r2,
    k.paused, k.paused_by, k.pause_reason, k.paused_at
FROM outbox.lease AS l CROSS JOIN outbox.cursor AS c CROSS JOIN outbox.rotation AS r CROSS JOIN outbox.control AS k
