SELECT item_type, display_name, kind, rarity, weapon_bonus, equippable FROM inventory.item_types WHERE item_type = $1
