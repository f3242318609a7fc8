SELECT l.epoch FROM outbox.lease AS l
