-- The rows of wallet.entries as text, as `ledger::fold` writes them.
SELECT
    concat_ws(' ', e.player_id, e.asset, lpad(e.version::text, 8, '0')) AS key,
    concat(
        'kind ', e.kind, ' posted ', e.posted_delta, ' = ', e.posted_after, ' held ', e.held_delta, ' = ', e.held_after,
        ' transaction ', coalesce(e.transaction_id::text, '-'), ' hold ', coalesce(e.hold_id::text, '-'),
        ' counterparty ', coalesce('player ' || e.counterparty_player, 'account ' || e.counterparty_account, '-'),
        ' event ', e.event_id, ' at ', (extract(EPOCH FROM e.created_at) * 1000000)::bigint, ' reason ', e.reason
    ) AS value
FROM wallet.entries AS e
