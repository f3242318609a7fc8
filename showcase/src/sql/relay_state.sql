-- Who relays this outbox, and how far it is.
SELECT
    l.owner, l.epoch AS lease_epoch, coalesce(l.expires_at > clock_timestamp(), false) AS held,
    c.epoch AS cursor_epoch, c.acked_seq, c.s1::text AS s1, c.s2::text AS s2
FROM outbox.lease AS l, outbox.cursor AS c
