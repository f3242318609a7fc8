COPY items_found (item_id, item_type, owner_id, state, reservation_id, hop, revision, updated_at) FROM STDIN (FORMAT binary)
