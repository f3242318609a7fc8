SELECT DISTINCT key FROM reactor.effect WHERE reactor = $1 AND topic = $2 AND partition = $3 AND state = 'failed'
