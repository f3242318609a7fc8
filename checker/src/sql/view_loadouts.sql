-- The rows of the live generation's loadouts as text, as `inventory::Model::tables` writes them.
SELECT
    concat_ws(' ', l.player_id, l.item_id) AS key,
    concat('equipped ', l.equipped::text, ' at ', (extract(EPOCH FROM l.changed_at) * 1000000)::bigint) AS value
FROM loadouts AS l
