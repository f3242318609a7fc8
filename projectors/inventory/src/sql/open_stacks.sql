-- The rows that the next statement adds to. They are made first because an upsert would check its row before it finds the one to add to,
-- and a change alone may be below zero.
INSERT INTO stacks (player_id, item_type, quantity, reserved, updated_at)
SELECT w.player_id, w.item_type, 0, 0, w.updated_at
FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS w (player_id, item_type, updated_at)
ON CONFLICT DO NOTHING
