SELECT es.drop_dedup_partitions($1)
