-- The groups of open dead letters of topic $1 and consumer group $2, where they are not null, the largest first, $3 at most; with how many dead
-- letters there are in all that fit.
WITH counted AS (
    SELECT l.group_id, count(*) AS letters, min(l.first_failed_at) AS first_failed_at, max(l.last_failed_at) AS last_failed_at
    FROM ops.dead_letter AS l WHERE l.state = 'open' GROUP BY l.group_id
)
SELECT g.id, g.code, g.event_type, g.topic, g.consumer_group, g.disposition, c.letters, c.first_failed_at, c.last_failed_at,
    (sum(c.letters) OVER ())::bigint AS total
FROM counted AS c JOIN ops.dead_letter_group AS g ON g.id = c.group_id
WHERE ($1::text IS NULL OR g.topic = $1) AND ($2::text IS NULL OR g.consumer_group = $2)
ORDER BY c.letters DESC, g.id
LIMIT $3::bigint
