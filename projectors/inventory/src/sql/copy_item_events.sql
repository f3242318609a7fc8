COPY item_events (item_id, hop, ordinal, event_id, event_type, player_id, counterparty_id, decided_at) FROM STDIN (FORMAT binary)
