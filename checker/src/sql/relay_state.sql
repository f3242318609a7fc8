-- Who relays this outbox, and how far it is: the cursor is only told apart from others.
SELECT
    l.owner, l.epoch AS lease_epoch, coalesce(l.expires_at > clock_timestamp(), false) AS held,
    concat_ws(' ', c.s1, c.s2, c.acked_seq) AS cursor
FROM outbox.lease AS l, outbox.cursor AS c
