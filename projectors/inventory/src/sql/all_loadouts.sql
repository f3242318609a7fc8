SELECT player_id, item_id, equipped, changed_at FROM loadouts
