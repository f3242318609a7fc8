UPDATE stacks AS s SET
    quantity = s.quantity + w.quantity,
    reserved = s.reserved + w.reserved,
    updated_at = greatest(s.updated_at, w.updated_at)
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[])
    AS w (player_id, item_type, quantity, reserved, updated_at)
WHERE s.player_id = w.player_id AND s.item_type = w.item_type
