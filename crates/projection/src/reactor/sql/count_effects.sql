SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'failed'), min(decided_at) FILTER (WHERE state = 'pending')
FROM reactor.effect
WHERE reactor = $1 AND topic = $2 AND state IN ('pending', 'failed')
