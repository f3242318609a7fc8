-- The open reservations that expire next, from beyond ($1, $2) on.
SELECT reservation_id, player_id, expires_at FROM inventory.reservations
WHERE state = 1 AND (expires_at, reservation_id) > ($1, $2)
ORDER BY expires_at, reservation_id LIMIT $3
