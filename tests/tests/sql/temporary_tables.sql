SELECT count(*) FROM pg_class AS c WHERE c.relpersistence = 't'
