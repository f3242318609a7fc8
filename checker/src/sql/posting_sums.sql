-- What all sides of all transactions sum to, by asset.
SELECT p.asset, count(DISTINCT p.transaction_id) AS transactions, sum(p.posted_delta)::text AS total
FROM wallet.postings AS p
GROUP BY p.asset
