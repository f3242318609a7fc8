-- How many blocks the streams are in, and whether this is a copy that may be behind.
SELECT pg_relation_size('es.streams') / current_setting('block_size')::bigint AS blocks, pg_is_in_recovery() AS is_standby
