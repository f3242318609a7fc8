-- A page of a wallet's entries, newest first: before version $2, of asset $3 and kind $4 and in the time from $5 to $6 where those are given,
-- $7 at most. One branch for each asset, so that each is read from the index in its order.
SELECT
    e.version, e.created_at, e.posted_delta, e.held_delta, e.posted_after, e.held_after, e.event_id, e.transaction_id, e.hold_id,
    e.counterparty_player, e.counterparty_account, e.asset, e.kind, e.reason
FROM (
    (SELECT * FROM wallet.entries
    WHERE player_id = $1 AND asset = 1 AND version < $2 AND ($3::smallint IS NULL OR $3 = 1) AND ($4::smallint IS NULL OR kind = $4)
        AND ($5::timestamptz IS NULL OR created_at >= $5) AND ($6::timestamptz IS NULL OR created_at < $6)
    ORDER BY version DESC LIMIT $7)
    UNION ALL
    (SELECT * FROM wallet.entries
    WHERE player_id = $1 AND asset = 2 AND version < $2 AND ($3::smallint IS NULL OR $3 = 2) AND ($4::smallint IS NULL OR kind = $4)
        AND ($5::timestamptz IS NULL OR created_at >= $5) AND ($6::timestamptz IS NULL OR created_at < $6)
    ORDER BY version DESC LIMIT $7)
) AS e
ORDER BY e.version DESC LIMIT $7
