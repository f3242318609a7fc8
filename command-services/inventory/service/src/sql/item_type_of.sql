-- The type of a unique item, whoever has it.
SELECT t.item_type, t.display_name, t.kind, t.rarity, t.weapon_bonus, t.equippable
FROM inventory.unique_items AS i JOIN inventory.item_types AS t USING (item_type)
WHERE i.item_id = $1
