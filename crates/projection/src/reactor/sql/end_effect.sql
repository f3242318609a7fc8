-- Under the epoch, which nobody raises meanwhile.
WITH held AS (
    SELECT FROM reactor.position WHERE reactor = $1 AND topic = $2 AND partition = $3 AND epoch = $4 FOR SHARE
), ended AS (
    UPDATE reactor.effect SET state = $6, attempts = $7, code = $8, reason = $9, state_changed_at = clock_timestamp()
    WHERE effect_id = $5 AND state = 'pending' AND EXISTS (SELECT FROM held)
)
SELECT EXISTS (SELECT FROM held)
