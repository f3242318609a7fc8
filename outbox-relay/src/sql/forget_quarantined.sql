-- $1 how long settled rows are kept, in seconds.
SELECT outbox.forget_quarantined(clock_timestamp() - $1::bigint * interval '1 second')
