SELECT pg_advisory_unlock(4919, $1)
