-- A wallet's period from $3 to before $4, as the entries between two versions: so opening, sums and closing always agree, also where the
-- clocks of two replicas differed. A sum that leaves 64 bits is NULL.
WITH opening AS (
    SELECT version, posted_after FROM wallet.entries
    WHERE player_id = $1 AND asset = $2 AND created_at < $3 ORDER BY version DESC LIMIT 1
), closing AS (
    SELECT version, posted_after FROM wallet.entries
    WHERE player_id = $1 AND asset = $2 AND created_at < $4 ORDER BY version DESC LIMIT 1
), sums AS (
    SELECT
        coalesce(sum(posted_delta) FILTER (WHERE posted_delta > 0), 0) AS credits,
        coalesce(-sum(posted_delta) FILTER (WHERE posted_delta < 0), 0) AS debits,
        count(*) AS entry_count
    FROM wallet.entries
    WHERE player_id = $1 AND asset = $2
        AND version > coalesce((SELECT version FROM opening), 0) AND version <= coalesce((SELECT version FROM closing), 0)
)
SELECT
    coalesce((SELECT posted_after FROM opening), 0) AS opening_posted,
    CASE WHEN greatest(credits, debits) <= 9223372036854775807 THEN credits::bigint END AS credits,
    CASE WHEN greatest(credits, debits) <= 9223372036854775807 THEN debits::bigint END AS debits,
    coalesce((SELECT posted_after FROM closing), 0) AS closing_posted,
    entry_count
FROM sums
