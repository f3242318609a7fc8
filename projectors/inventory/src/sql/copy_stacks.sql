COPY stacks (player_id, item_type, quantity, reserved, updated_at) FROM STDIN (FORMAT binary)
