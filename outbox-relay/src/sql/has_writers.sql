-- Whether a transaction that wrote into table $1 still runs. Waiting for it would only make readers wait too.
SELECT EXISTS (
    SELECT FROM pg_locks AS l
    WHERE l.relation = ('outbox.r' || $1::smallint)::regclass AND l.mode = 'RowExclusiveLock' AND l.granted
        AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
)
