SELECT pg_advisory_lock(hashtextextended('idempo migrations', 0))
