-- As of a batch, but that it waits for the disk: what is parked is nowhere else once Kafka has forgotten it.
SELECT
    set_config('synchronous_commit', 'on', true),
    set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true),
    set_config('enable_seqscan', 'off', true)
