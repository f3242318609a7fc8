SELECT
    i.item_id, i.item_type, i.owner_id, 1::bigint AS quantity, (i.state = 2)::int::bigint AS reserved, i.state,
    coalesce(o.equipped, false) AS equipped, i.hop, greatest(i.updated_at, o.changed_at) AS updated_at
FROM items AS i
LEFT JOIN loadouts AS o ON o.player_id = i.owner_id AND o.item_id = i.item_id
WHERE i.item_id = $1
