-- One that somebody else has given up was performed all the same.
UPDATE reactor.effect SET state = 'done', state_changed_at = clock_timestamp()
WHERE effect_id = ANY ($1) AND state IN ('pending', 'failed')
