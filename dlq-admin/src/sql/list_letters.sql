-- Dead letters behind number $1, by state $2, code $3, event type $4, topic $5, consumer group $6, key $7, last failure from $8 to before $9, and
-- group $10 where they are not null, $11 at most. Their bytes stay here.
SELECT l.* FROM ops.letter AS l
WHERE l.id > $1::bigint AND ($2::text IS NULL OR l.state = $2) AND ($3::text IS NULL OR l.code = $3)
    AND ($4::text IS NULL OR l.event_type = $4) AND ($5::text IS NULL OR l.topic = $5) AND ($6::text IS NULL OR l.consumer_group = $6)
    AND ($7::text IS NULL OR l.key_text = $7) AND ($8::timestamptz IS NULL OR l.last_failed_at >= $8)
    AND ($9::timestamptz IS NULL OR l.last_failed_at < $9) AND ($10::bigint IS NULL OR l.group_id = $10)
ORDER BY l.id
LIMIT $11::bigint
