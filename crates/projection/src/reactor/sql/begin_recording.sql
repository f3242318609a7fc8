-- An effect is performed when it is in the log: it must not be lost then, whatever the database's default is.
SELECT set_config('synchronous_commit', 'on', true)
