SELECT v.differences FROM verification AS v WHERE v.projection = $1 AND v.generation = $2
