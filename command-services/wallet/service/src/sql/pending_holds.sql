-- The pending holds that expire next, from beyond ($1, $2) on.
SELECT hold_id, player_id, placed_version, expires_at FROM wallet.holds
WHERE state = 1 AND (expires_at, hold_id) > ($1, $2)
ORDER BY expires_at, hold_id LIMIT $3
