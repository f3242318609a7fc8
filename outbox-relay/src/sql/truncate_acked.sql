-- $1 the number of the table.
SELECT outbox.truncate_acked($1)
