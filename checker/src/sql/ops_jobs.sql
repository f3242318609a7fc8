SELECT j.id, j.state, j.applied_at IS NOT NULL AS begun FROM ops.job AS j ORDER BY j.id
