SELECT outbox.backlog_age_ms() AS age_ms
