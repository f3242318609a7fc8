SELECT count(*) FROM es.command_dedup AS d WHERE d.key = ANY ($1)
