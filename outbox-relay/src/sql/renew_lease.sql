-- $1 the holder, $2 its epoch, $3 how long the lease holds, in milliseconds.
UPDATE outbox.lease SET expires_at = clock_timestamp() + $3::bigint * interval '1 millisecond'
WHERE owner = $1 AND epoch = $2
