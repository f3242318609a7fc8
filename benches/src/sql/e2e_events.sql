-- What the inventory service has stored: events of all kinds, and items granted.
SELECT count(*), count(*) FILTER (WHERE e.event_type = 201) FROM es.events AS e
