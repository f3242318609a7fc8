-- The rows of a generation, or of the session's fold where the names are those of its temporary tables.
SELECT (SELECT count(*) FROM items) + (SELECT count(*) FROM stacks) + (SELECT count(*) FROM loadouts) + (SELECT count(*) FROM item_events) AS row_count
