-- How many rows wait in the quarantine, by state.
SELECT
    count(*) FILTER (WHERE q.state = 'held') AS held, count(*) FILTER (WHERE q.state = 'parked') AS parked,
    count(*) FILTER (WHERE q.state = 'diverted') AS diverted, count(*) FILTER (WHERE q.state = 'requeued') AS requeued
FROM outbox.quarantine AS q
WHERE q.state IN ('held', 'parked', 'diverted', 'requeued')
