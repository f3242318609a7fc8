-- What is put away comes before what is equipped: a player has one thing equipped at any moment.
INSERT INTO loadouts (player_id, item_id, equipped, changed_at)
SELECT w.player_id, w.item_id, w.equipped, w.changed_at
FROM unnest($1::uuid[], $2::uuid[], $3::boolean[], $4::timestamptz[]) AS w (player_id, item_id, equipped, changed_at)
ORDER BY w.equipped, w.player_id, w.item_id
ON CONFLICT (player_id, item_id) DO UPDATE SET equipped = excluded.equipped, changed_at = excluded.changed_at
