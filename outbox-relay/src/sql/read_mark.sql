-- First the last number drawn, then the next xid, in this order: the second is computed on the row that the first gave. Every transaction
-- from that xid on draws higher numbers. age() is how SQL tells the next xid without assigning one; it is the lower half of it.
WITH drawn AS MATERIALIZED (SELECT coalesce(pg_sequence_last_value('outbox.seq'), 0) AS seq)
SELECT d.seq, age('3'::xid) AS from_3 FROM drawn AS d
