-- Dead letters $5 have failed again. Each is looked up by itself, as in claim_letters.
UPDATE dead_letter AS d SET
    state = 'parked', discard = false, wished_by = NULL, wish_reason = NULL, wished_at = NULL, revision = d.revision + 1,
    stage = w.stage, code = w.code, reason = w.reason, attempts = w.attempts, replay_count = w.replay_count, last_failed_at = w.failed_at
FROM unnest($5::bigint[], $6::text[], $7::text[], $8::text[], $9::integer[], $10::integer[], $11::timestamptz[])
    AS w (record_offset, stage, code, reason, attempts, replay_count, failed_at)
CROSS JOIN LATERAL (
    SELECT l.ctid AS place FROM dead_letter AS l
    WHERE l.projection = $1 AND l.generation = $2 AND l.topic = $3 AND l.partition = $4 AND l.record_offset = w.record_offset
    LIMIT 1
) AS q
WHERE d.ctid = q.place
