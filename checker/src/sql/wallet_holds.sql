-- The rows of wallet.holds as text, as `ledger::fold` writes them.
SELECT
    h.hold_id::text AS key,
    concat(
        'player ', h.player_id, ' placed ', h.placed_version, ' at ', (extract(EPOCH FROM h.placed_at) * 1000000)::bigint,
        ' asset ', h.asset, ' amount ', h.amount, ' expires ', (extract(EPOCH FROM h.expires_at) * 1000000)::bigint,
        ' captured ', h.captured_amount, ' state ', h.state,
        ' resolved ', coalesce(((extract(EPOCH FROM h.resolved_at) * 1000000)::bigint)::text, '-'), ' reason ', h.reason
    ) AS value
FROM wallet.holds AS h
