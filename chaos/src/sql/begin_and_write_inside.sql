-- Takes a transaction id and one of a subtransaction, and leaves the transaction open.
BEGIN;
INSERT INTO chaos.scratch (note) VALUES ('held');
SAVEPOINT inside;
INSERT INTO chaos.scratch (note) VALUES ('held inside');
RELEASE SAVEPOINT inside;
