-- Takes a transaction id and leaves the transaction open.
BEGIN;
INSERT INTO chaos.scratch (note) VALUES ('held');
