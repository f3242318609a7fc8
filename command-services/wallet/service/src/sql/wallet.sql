-- A wallet's last entry of each asset, of those made at or before $2 where it is given. The last version comes from the index alone.
SELECT
    w.opened_at,
    greatest(1, c.version, s.version) AS version,
    coalesce(c.posted_after, 0) AS coin_posted, coalesce(c.held_after, 0) AS coin_held,
    coalesce(s.posted_after, 0) AS stamp_posted, coalesce(s.held_after, 0) AS stamp_held
FROM wallet.wallets AS w
LEFT JOIN wallet.entries AS c ON c.player_id = w.player_id AND c.asset = 1 AND c.version = (
    SELECT e.version FROM wallet.entries AS e
    WHERE e.player_id = w.player_id AND e.asset = 1 AND ($2::timestamptz IS NULL OR e.created_at <= $2)
    ORDER BY e.version DESC LIMIT 1
)
LEFT JOIN wallet.entries AS s ON s.player_id = w.player_id AND s.asset = 2 AND s.version = (
    SELECT e.version FROM wallet.entries AS e
    WHERE e.player_id = w.player_id AND e.asset = 2 AND ($2::timestamptz IS NULL OR e.created_at <= $2)
    ORDER BY e.version DESC LIMIT 1
)
WHERE w.player_id = $1
