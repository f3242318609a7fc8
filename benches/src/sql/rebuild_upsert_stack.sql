INSERT INTO upserted.stacks AS s (player_id, item_type, quantity, reserved, updated_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (player_id, item_type) DO UPDATE SET
    quantity = s.quantity + excluded.quantity, reserved = s.reserved + excluded.reserved, updated_at = greatest(s.updated_at, excluded.updated_at)
