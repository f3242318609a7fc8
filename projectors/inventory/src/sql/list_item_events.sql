-- A page of a unique item's history, after the place ($2, $3).
SELECT e.hop, e.ordinal, e.event_id, e.event_type, e.player_id, e.counterparty_id, e.decided_at
FROM item_events AS e
WHERE e.item_id = $1 AND (e.hop, e.ordinal) > ($2::bigint, $3::bigint)
ORDER BY e.hop, e.ordinal
LIMIT $4
