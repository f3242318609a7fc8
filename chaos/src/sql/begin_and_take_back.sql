-- Takes transaction ids, gives one of them up, and leaves the transaction open.
BEGIN;
INSERT INTO chaos.scratch (note) VALUES ('to be rolled back');
SAVEPOINT inside;
INSERT INTO chaos.scratch (note) VALUES ('rolled back at once');
ROLLBACK TO SAVEPOINT inside;
INSERT INTO chaos.scratch (note) VALUES ('to be rolled back too');
