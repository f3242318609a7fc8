-- A transaction, whether it was reversed, and the version that the stream which its reversal is addressed to has in this statement's snapshot
-- (each of its events but the first is an entry).
SELECT
    t.asset, t.amount, t.from_player, t.from_account, t.to_player, t.to_account,
    t.reverses IS NOT NULL AS is_reversal,
    EXISTS (SELECT FROM wallet.transactions AS r WHERE r.reverses = t.transaction_id) AS reversed,
    greatest(
        (SELECT e.version FROM wallet.entries AS e WHERE e.player_id = a.player_id AND e.asset = 1 ORDER BY e.version DESC LIMIT 1),
        (SELECT e.version FROM wallet.entries AS e WHERE e.player_id = a.player_id AND e.asset = 2 ORDER BY e.version DESC LIMIT 1),
        0
    ) AS version
FROM wallet.transactions AS t CROSS JOIN LATERAL (SELECT coalesce(t.to_player, t.from_player) AS player_id) AS a
WHERE t.transaction_id = $1
