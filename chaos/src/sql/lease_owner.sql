SELECT l.owner FROM outbox.lease AS l
