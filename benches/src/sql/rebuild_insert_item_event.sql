INSERT INTO upserted.item_events (item_id, hop, ordinal, event_id, event_type, player_id, counterparty_id, decided_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT DO NOTHING
