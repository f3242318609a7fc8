SELECT es.ensure_dedup_partition($1)
