-- Open dead letters by topic and disposition, and the first failure of the oldest.
SELECT g.topic, g.disposition, count(*)::bigint AS letters, min(l.first_failed_at) AS oldest
FROM ops.dead_letter AS l JOIN ops.dead_letter_group AS g ON g.id = l.group_id
WHERE l.state = 'open'
GROUP BY g.topic, g.disposition
