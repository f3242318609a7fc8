-- A page of the item types in the order of their ids: those after $1, $2 at most.
SELECT item_type, display_name, kind, rarity, weapon_bonus, equippable FROM inventory.item_types
WHERE item_type > $1 ORDER BY item_type LIMIT $2
