-- $1 the table that is written, $2 the one to be written from now on.
UPDATE outbox.rotation SET current = $2, rotated_at = clock_timestamp() WHERE current = $1
