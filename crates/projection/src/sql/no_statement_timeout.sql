-- For the rest of the transaction: what it does takes as long as there are rows.
SET LOCAL statement_timeout = 0
