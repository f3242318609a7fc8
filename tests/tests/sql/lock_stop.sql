SELECT pg_advisory_lock(4919, $1)
