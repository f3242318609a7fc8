UPDATE verification SET state = $3, rows = $4, buckets = $5, buckets_different = $6, differences = $7, failure = left($8, 1000), ended_at = clock_timestamp()
WHERE projection = $1 AND generation = $2 AND state = 'running'
