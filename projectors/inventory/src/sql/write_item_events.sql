-- An event that equips names no hop. It is the one of the last entry of the same player: that is where the player got the item.
INSERT INTO item_events (item_id, hop, ordinal, event_id, event_type, player_id, counterparty_id, decided_at)
SELECT
    w.item_id,
    coalesce(w.hop, (SELECT max(e.hop) FROM item_events AS e WHERE e.item_id = w.item_id AND e.player_id = w.player_id)),
    w.ordinal, w.event_id, w.event_type, w.player_id, w.counterparty_id, w.decided_at
FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::uuid[], $5::smallint[], $6::uuid[], $7::uuid[], $8::timestamptz[])
    AS w (item_id, hop, ordinal, event_id, event_type, player_id, counterparty_id, decided_at)
