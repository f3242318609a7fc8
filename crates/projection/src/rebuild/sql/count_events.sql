-- How many events there are (the versions of streams are gapless from 1), and whether this is a copy that may be behind.
SELECT coalesce(sum(s.version), 0)::bigint AS events, pg_is_in_recovery() AS is_standby FROM es.streams AS s
