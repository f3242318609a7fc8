SELECT e.envelope FROM es.events AS e ORDER BY e.stream_id, e.version
