-- The rows of the live generation's stacks as text, as `inventory::Model::tables` writes them.
SELECT
    concat_ws(' ', s.player_id, s.item_type) AS key,
    concat('quantity ', s.quantity, ' reserved ', s.reserved, ' at ', (extract(EPOCH FROM s.updated_at) * 1000000)::bigint) AS value
FROM stacks AS s
