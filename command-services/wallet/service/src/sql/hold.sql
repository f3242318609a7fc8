SELECT asset, amount, captured_amount, state, placed_at, expires_at, resolved_at, reason
FROM wallet.holds WHERE hold_id = $2 AND player_id = $1
