-- A wallet's period from $3 to before $4, as the entries between two versions: so opening, sums and closing always agree, also where the
-- clocks of two replicas differed. The versions come from the index alone. A sum that leaves 64 bits is NULL.
WITH bounds AS (
    SELECT
        coalesce((
            SELECT e.version FROM wallet.entries AS e WHERE e.player_id = $1 AND e.asset = $2 AND e.created_at < $3
            ORDER BY e.version DESC LIMIT 1
        ), 0) AS opening,
        coalesce((
            SELECT e.version FROM wallet.entries AS e WHERE e.player_id = $1 AND e.asset = $2 AND e.created_at < $4
            ORDER BY e.version DESC LIMIT 1
        ), 0) AS closing
), sums AS (
    SELECT
        coalesce(sum(e.posted_delta) FILTER (WHERE e.posted_delta > 0), 0) AS credits,
        coalesce(-sum(e.posted_delta) FILTER (WHERE e.posted_delta < 0), 0) AS debits,
        count(*) AS entry_count
    FROM wallet.entries AS e
    WHERE e.player_id = $1 AND e.asset = $2
        AND e.version > (SELECT b.opening FROM bounds AS b) AND e.version <= (SELECT b.closing FROM bounds AS b)
)
SELECT
    coalesce((
        SELECT e.posted_after FROM wallet.entries AS e
        WHERE e.player_id = $1 AND e.asset = $2 AND e.version = (SELECT b.opening FROM bounds AS b)
    ), 0) AS opening_posted,
    CASE WHEN greatest(s.credits, s.debits) <= 9223372036854775807 THEN s.credits::bigint END AS credits,
    CASE WHEN greatest(s.credits, s.debits) <= 9223372036854775807 THEN s.debits::bigint END AS debits,
    coalesce((
        SELECT e.posted_after FROM wallet.entries AS e
        WHERE e.player_id = $1 AND e.asset = $2 AND e.version = (SELECT b.closing FROM bounds AS b)
    ), 0) AS closing_posted,
    s.entry_count
FROM sums AS s
