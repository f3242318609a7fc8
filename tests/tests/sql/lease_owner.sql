SELECT l.owner FROM outbox.lease AS l WHERE l.expires_at > clock_timestamp()
