-- The backend that waits at a stop, of this database.
SELECT l.pid
FROM pg_locks AS l
WHERE l.locktype = 'advisory' AND l.classid = 4919 AND l.objid::bigint = $1::integer AND NOT l.granted
    AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
LIMIT 1
