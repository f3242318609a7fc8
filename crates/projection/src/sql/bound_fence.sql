-- Whoever is kept by the transaction waits no longer than this, whatever happens in it.
SELECT set_config('statement_timeout', '3s', true), set_config('idle_in_transaction_session_timeout', '3s', true)
