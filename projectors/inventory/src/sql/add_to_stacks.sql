-- No upsert: the row that it proposes is checked before the one in its place is found, and a change alone may be below zero. All changes of a
-- player's stacks come from one stream, so from one partition, whose checkpoint this transaction holds: nobody else adds the row meanwhile.
MERGE INTO stacks AS s
USING unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[]) AS w (player_id, item_type, quantity, reserved, updated_at)
    ON s.player_id = w.player_id AND s.item_type = w.item_type
WHEN MATCHED THEN UPDATE SET
    quantity = s.quantity + w.quantity,
    reserved = s.reserved + w.reserved,
    updated_at = greatest(s.updated_at, w.updated_at)
WHEN NOT MATCHED THEN INSERT (player_id, item_type, quantity, reserved, updated_at)
    VALUES (w.player_id, w.item_type, w.quantity, w.reserved, w.updated_at)
