-- $1 the holder, $2 its epoch.
UPDATE outbox.lease SET owner = NULL, expires_at = NULL, backend_pid = NULL, backend_start = NULL
WHERE owner = $1 AND epoch = $2
