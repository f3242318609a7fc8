-- How far the outbox says that it is in Kafka.
SELECT c.s1::text AS s1, c.s2::text AS s2, c.acked_seq FROM outbox.cursor AS c
