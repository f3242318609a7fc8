-- The rows of the live generation's item_events as text, as `inventory::Model::tables` writes them.
SELECT
    concat_ws(' ', e.item_id, e.hop, e.ordinal) AS key,
    concat(
        'event ', e.event_id, ' type ', e.event_type, ' player ', e.player_id, ' counterparty ', coalesce(e.counterparty_id::text, '-'),
        ' at ', (extract(EPOCH FROM e.decided_at) * 1000000)::bigint
    ) AS value
FROM item_events AS e
