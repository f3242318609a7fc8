-- By how much the sides of the postings made from $1 on differ, summed over the assets: of those before $2, and of those from $2 on.
-- Both sides of a transaction have its time, so a period has both or none.
SELECT coalesce(sum(abs(x.settled)), 0)::double precision AS settled, coalesce(sum(abs(x.recent)), 0)::double precision AS recent
FROM (
    SELECT
        sum(p.delta) FILTER (WHERE p.created_at < $2) AS settled,
        sum(p.delta) FILTER (WHERE p.created_at >= $2) AS recent
    FROM (
        SELECT e.asset, e.created_at, e.posted_delta AS delta FROM wallet.entries AS e
        WHERE e.created_at >= $1 AND e.transaction_id IS NOT NULL
        UNION ALL
        SELECT t.asset, t.created_at, -t.amount FROM wallet.transactions AS t WHERE t.created_at >= $1 AND t.from_account IS NOT NULL
        UNION ALL
        SELECT t.asset, t.created_at, t.amount FROM wallet.transactions AS t WHERE t.created_at >= $1 AND t.to_account IS NOT NULL
    ) AS p
    GROUP BY p.asset
) AS x
