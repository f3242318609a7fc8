-- Transactions whose two sides don't sum to zero, and how many transactions there are.
SELECT p.transaction_id, p.asset, sum(p.posted_delta)::text AS total
FROM wallet.postings AS p
GROUP BY p.transaction_id, p.asset
HAVING sum(p.posted_delta) <> 0
