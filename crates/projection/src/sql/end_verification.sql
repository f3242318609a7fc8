-- $3 what it was compared with. One that was asked for with something else meanwhile is left alone.
UPDATE verification SET
    state = $4, rows = $5, buckets = $6, buckets_different = $7, differences = $8, failure = left($9, 1000), live_buckets_different = $10,
    ended_at = clock_timestamp()
WHERE projection = $1 AND generation = $2 AND against = $3 AND state IN ('running', 'running_fold')
