-- What each wallet has of each asset: its last entry.
SELECT DISTINCT ON (e.player_id, e.asset) e.player_id, e.asset, e.posted_after, e.held_after
FROM wallet.entries AS e
ORDER BY e.player_id ASC, e.asset ASC, e.version DESC
