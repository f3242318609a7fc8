UPDATE rebuild SET phase = 'indexing', phase_at = clock_timestamp() WHERE projection = $1 AND generation = $2 AND phase = 'scanning'
