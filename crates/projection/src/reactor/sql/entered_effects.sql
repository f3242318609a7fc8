-- Those of a recording that it entered itself: an effect that was there before has an earlier record.
SELECT effect_id FROM reactor.effect
WHERE effect_id = ANY ($4) AND reactor = $1 AND topic = $2 AND partition = $3 AND record_offset >= $5
