-- Every dead letter that is known to the service that shows them.
SELECT l.id, l.consumer_group, l.topic, l.partition, l.record_offset, l.key_text, l.state, g.code
FROM ops.dead_letter AS l JOIN ops.dead_letter_group AS g ON g.id = l.group_id
ORDER BY l.id
