-- What a player had equipped before the batch gives way to the first thing equipped in it.
UPDATE loadouts AS l SET equipped = false, changed_at = w.replaced_at
FROM unnest($1::uuid[], $2::timestamptz[]) AS w (player_id, replaced_at)
WHERE l.player_id = w.player_id AND l.equipped
