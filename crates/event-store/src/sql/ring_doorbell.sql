-- Nobody is hurt if it is lost: its transaction need not wait for the disk.
SELECT set_config('synchronous_commit', 'off', true), pg_notify('outbox', '')
