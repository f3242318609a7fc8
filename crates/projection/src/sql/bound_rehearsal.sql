-- It ends soon, whatever it waits for: the live task may wait for it. Otherwise as of a batch.
SELECT
    set_config('lock_timeout', '1s', true),
    set_config('statement_timeout', '5s', true),
    set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true),
    set_config('enable_seqscan', 'off', true)
