-- The events of the streams of one part, in the order in which they are folded. All that the statement's snapshot shows are taken; the module that
-- reads them says why that is right.
SELECT e.stream_id, e.version, e.envelope
FROM es.events AS e
WHERE e.stream_id BETWEEN $1 AND $2
ORDER BY e.stream_id, e.version
