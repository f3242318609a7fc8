-- A transaction that has its number, and stays: the session may be idle in it.
SET idle_in_transaction_session_timeout = 0;
BEGIN;
SELECT pg_current_xact_id()
