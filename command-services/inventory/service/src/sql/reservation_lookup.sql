-- The version that the inventory's stream $3 has in this statement's snapshot, and how the reservation $2 of player $1 had ended by then.
SELECT
    coalesce((SELECT s.version FROM es.streams AS s WHERE s.stream_id = $3), 0) AS version,
    (SELECT r.state FROM inventory.reservations AS r WHERE r.reservation_id = $2 AND r.player_id = $1 AND r.state <> 1) AS state
