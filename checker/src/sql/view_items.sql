-- The rows of the live generation's items as text, as `inventory::Model::tables` writes them. The generation is found by search_path.
SELECT
    i.item_id::text AS key,
    concat(
        'type ', i.item_type, ' owner ', i.owner_id, ' state ', i.state, ' reservation ', coalesce(i.reservation_id::text, '-'),
        ' hop ', i.hop, ' revision ', i.revision, ' at ', (extract(EPOCH FROM i.updated_at) * 1000000)::bigint
    ) AS value
FROM items AS i
