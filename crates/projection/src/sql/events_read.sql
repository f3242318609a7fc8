SELECT coalesce(sum(b.events), 0)::bigint FROM rebuilt_bucket AS b WHERE b.projection = $1 AND b.generation = $2
