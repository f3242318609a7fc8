-- A row gives way to one of a greater (hop, revision); the time decides only between the two legs of a transfer.
INSERT INTO items AS i (item_id, item_type, owner_id, state, reservation_id, hop, revision, updated_at)
SELECT w.item_id, w.item_type, w.owner_id, w.state, w.reservation_id, w.hop, w.revision, w.updated_at
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::smallint[], $5::uuid[], $6::bigint[], $7::bigint[], $8::timestamptz[])
    AS w (item_id, item_type, owner_id, state, reservation_id, hop, revision, updated_at)
ON CONFLICT (item_id) DO UPDATE SET
    owner_id = excluded.owner_id,
    state = excluded.state,
    reservation_id = excluded.reservation_id,
    hop = excluded.hop,
    revision = excluded.revision,
    updated_at = excluded.updated_at
WHERE (i.hop, i.revision, i.updated_at) < (excluded.hop, excluded.revision, excluded.updated_at)
