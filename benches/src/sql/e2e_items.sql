-- What the read model has: items, and what happened to them.
SELECT (SELECT count(*) FROM inventory_g1.items), (SELECT count(*) FROM inventory_g1.item_events)
