SELECT item_id, item_type, owner_id, state, reservation_id, hop, revision, updated_at FROM items
