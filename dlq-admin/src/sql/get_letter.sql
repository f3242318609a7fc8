-- $1 consumer group, $2 topic, $3 partition, $4 offset of a dead letter; $5 how many bytes of its value at most.
SELECT l.*, r.key, substr(r.value, 1, $5::integer) AS value, r.header_keys, r.header_values
FROM ops.letter AS l JOIN ops.dead_letter_record AS r ON r.id = l.id
WHERE l.consumer_group = $1 AND l.topic = $2 AND l.partition = $3 AND l.record_offset = $4
