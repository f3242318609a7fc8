SELECT player_id, item_type, quantity, reserved, updated_at FROM stacks
