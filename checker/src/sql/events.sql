SELECT e.xid::text::bigint AS xid, e.seq, e.stream_id, e.version, e.event_id, e.envelope
FROM es.events AS e
ORDER BY e.seq
