INSERT INTO upserted.items AS i (item_id, item_type, owner_id, state, reservation_id, hop, revision, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (item_id) DO UPDATE SET
    owner_id = excluded.owner_id, state = excluded.state, reservation_id = excluded.reservation_id, hop = excluded.hop, revision = excluded.revision,
    updated_at = excluded.updated_at
WHERE (i.hop, i.revision, i.updated_at) < (excluded.hop, excluded.revision, excluded.updated_at)
