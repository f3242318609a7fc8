-- No index leads to a parked record without its key. What is parked is read once, and not once for each record that is asked for.
SELECT set_config('enable_nestloop', 'off', true), set_config('enable_hashjoin', 'on', true)
