-- A page of what a player has: unique items by id, then stacks by type. $2: the last unique item of the page before, $3: its last stack;
-- once a stack was listed, no unique item is left. $4: a type, $5: a state, $6: uniques (1), stacks (2); null for all.
SELECT l.item_id, l.item_type, l.owner_id, l.quantity, l.reserved, l.state, l.equipped, l.hop, l.updated_at
FROM (
    (
        SELECT
            i.item_id, i.item_type, i.owner_id, 1::bigint AS quantity, (i.state = 2)::int::bigint AS reserved, i.state,
            coalesce(o.equipped, false) AS equipped, i.hop, greatest(i.updated_at, o.changed_at) AS updated_at
        FROM items AS i
        LEFT JOIN loadouts AS o ON o.player_id = i.owner_id AND o.item_id = i.item_id
        WHERE i.owner_id = $1
            AND ($2::uuid IS NULL OR i.item_id > $2)
            AND $3::text IS NULL
            AND ($4::text IS NULL OR i.item_type = $4)
            AND CASE WHEN $5::smallint IS NULL THEN i.state < 3 ELSE i.state = $5 END
            AND coalesce($6::smallint, 1) = 1
        ORDER BY i.item_id
        LIMIT $7
    )
    UNION ALL
    (
        SELECT NULL, s.item_type, s.player_id, s.quantity, s.reserved, 1::smallint, false, 0::bigint, s.updated_at
        FROM stacks AS s
        WHERE s.player_id = $1
            AND s.quantity > 0
            AND ($3::text IS NULL OR s.item_type > $3)
            AND ($4::text IS NULL OR s.item_type = $4)
            AND coalesce($5::smallint, 1) = 1
            AND coalesce($6::smallint, 2) = 2
        ORDER BY s.item_type
        LIMIT $7
    )
) AS l
ORDER BY (l.item_id IS NULL), l.item_id, l.item_type
LIMIT $7
