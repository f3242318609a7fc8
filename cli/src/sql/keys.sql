-- What a store remembers of an idempotency key.
SELECT d.key, d.scope, d.outcome, d.reply FROM es.command_dedup AS d WHERE d.key = $1::uuid
