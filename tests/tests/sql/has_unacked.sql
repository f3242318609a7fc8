-- Whether any outbox table has a row that is not known to be in Kafka.
SELECT bool_or(outbox.has_unacked(r.number::smallint)) FROM generate_series(0, 2) AS r (number)
