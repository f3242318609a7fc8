-- Rows that the cursor has passed, or may, and that are not in Kafka.
SELECT q.seq FROM outbox.quarantine AS q WHERE q.state <> 'sent'
