SELECT es.ensure_dedup_partition(now() - interval '1 hour'), es.ensure_dedup_partition(now())
