-- Takes a connection back to how it began. BEGIN warns where a transaction is open and fails where one is broken, so that either is noticed;
-- ROLLBACK alone would warn each time there is none.
BEGIN;
ROLLBACK;
CLOSE ALL;
SET SESSION AUTHORIZATION DEFAULT;
RESET ALL;
UNLISTEN *;
SELECT pg_advisory_unlock_all();
DISCARD TEMP;
