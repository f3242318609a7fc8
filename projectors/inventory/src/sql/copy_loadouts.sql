COPY loadouts (player_id, item_id, equipped, changed_at) FROM STDIN (FORMAT binary)
