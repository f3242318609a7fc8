-- The rows of wallet.transactions as text, as `ledger::fold` writes them.
SELECT
    t.transaction_id::text AS key,
    concat(
        'asset ', t.asset, ' amount ', t.amount,
        ' from ', coalesce('player ' || t.from_player, 'account ' || t.from_account),
        ' to ', coalesce('player ' || t.to_player, 'account ' || t.to_account),
        ' reverses ', coalesce(t.reverses::text, '-'), ' at ', (extract(EPOCH FROM t.created_at) * 1000000)::bigint
    ) AS value
FROM wallet.transactions AS t
