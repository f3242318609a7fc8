-- All rows of items $1 and of players $2, as JSON, at most $3.
SELECT t.tab, t.key::text AS key, t.content::text AS content
FROM (
    SELECT 'items' AS tab, jsonb_build_object('item_id', i.item_id) AS key, to_jsonb(i) AS content
    FROM items AS i WHERE i.item_id = ANY ($1::uuid[])
    UNION ALL
    SELECT 'item_events', jsonb_build_object('item_id', e.item_id, 'hop', e.hop, 'ordinal', e.ordinal), to_jsonb(e)
    FROM item_events AS e WHERE e.item_id = ANY ($1::uuid[])
    UNION ALL
    SELECT 'stacks', jsonb_build_object('player_id', s.player_id, 'item_type', s.item_type), to_jsonb(s)
    FROM stacks AS s WHERE s.player_id = ANY ($2::uuid[])
    UNION ALL
    SELECT 'loadouts', jsonb_build_object('player_id', l.player_id, 'item_id', l.item_id), to_jsonb(l)
    FROM loadouts AS l WHERE l.player_id = ANY ($2::uuid[])
) AS t
LIMIT $3
