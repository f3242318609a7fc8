-- How far the dead-letter topics are read.
SELECT p.topic, p.partition, p.next_offset FROM ops.position AS p
