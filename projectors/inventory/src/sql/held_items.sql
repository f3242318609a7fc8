-- The items that the rows lay in the hands of player $1.
SELECT i.item_id FROM items AS i WHERE i.owner_id = $1
