-- A read model can be built again: a crash of the server may lose its last batches, position and rows together.
-- The rows of a batch are looked up by their keys. The planner would read whole tables while it believes them to be small, and go on doing so in a
-- cached plan when they have grown.
SELECT
    set_config('synchronous_commit', 'off', true),
    set_config('enable_hashjoin', 'off', true),
    set_config('enable_mergejoin', 'off', true),
    set_config('enable_seqscan', 'off', true)
