SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1
