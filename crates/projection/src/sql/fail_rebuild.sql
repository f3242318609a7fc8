UPDATE rebuild SET phase = 'failed', phase_at = clock_timestamp(), failure_code = left($3, 64), failure = left($4, 1000)
WHERE projection = $1 AND generation = $2 AND phase NOT IN ('done', 'failed')
