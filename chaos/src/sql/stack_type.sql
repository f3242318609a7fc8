-- An item type of which somebody has some, which one is $1's to decide.
SELECT s.item_type FROM inventory_g1.stacks AS s GROUP BY s.item_type ORDER BY md5(concat($1::uuid, s.item_type)) LIMIT 1
