-- $1 the epoch, $2 the rows of the quarantine that are in Kafka.
SELECT outbox.mark_sent($1, $2)
