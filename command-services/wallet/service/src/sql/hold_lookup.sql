-- The version that the wallet's stream has in this statement's snapshot (each of its events but the first is an entry), and how the hold was
-- resolved by then.
SELECT
    greatest(
        (SELECT e.version FROM wallet.entries AS e WHERE e.player_id = $1 AND e.asset = 1 ORDER BY e.version DESC LIMIT 1),
        (SELECT e.version FROM wallet.entries AS e WHERE e.player_id = $1 AND e.asset = 2 ORDER BY e.version DESC LIMIT 1),
        0
    ) AS version,
    (SELECT h.state FROM wallet.holds AS h WHERE h.hold_id = $2 AND h.player_id = $1 AND h.state <> 1) AS state
