SELECT outcome, fingerprint, reply FROM es.command_dedup WHERE key = $1 AND scope = $2
