SELECT d.key, d.scope, d.outcome, d.reply FROM es.command_dedup AS d ORDER BY d.key, d.scope
