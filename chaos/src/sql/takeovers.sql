-- How often the lease was taken.
SELECT l.epoch FROM outbox.lease AS l
