-- Tables like those of a generation, with their indexes, and without what is checked of a row: an upsert proposes a row that a change alone is none of.
CREATE SCHEMA upserted;
CREATE TABLE upserted.items (LIKE inventory_g1.items INCLUDING INDEXES INCLUDING STORAGE);
CREATE TABLE upserted.stacks (LIKE inventory_g1.stacks INCLUDING INDEXES INCLUDING STORAGE);
CREATE TABLE upserted.item_events (LIKE inventory_g1.item_events INCLUDING INDEXES INCLUDING STORAGE);
