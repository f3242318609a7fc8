-- Dead letters $5 have failed again.
UPDATE dead_letter AS d SET
    state = 'parked', discard = false, wished_by = NULL, wish_reason = NULL, wished_at = NULL, revision = d.revision + 1,
    stage = w.stage, code = w.code, reason = w.reason, attempts = w.attempts, replay_count = w.replay_count, last_failed_at = w.failed_at
FROM unnest($5::bigint[], $6::text[], $7::text[], $8::text[], $9::integer[], $10::integer[], $11::timestamptz[])
    AS w (record_offset, stage, code, reason, attempts, replay_count, failed_at)
WHERE d.projection = $1 AND d.generation = $2 AND d.topic = $3 AND d.partition = $4 AND d.record_offset = w.record_offset
