UPDATE verification SET state = 'running', compared_with = $3
WHERE projection = $1 AND generation = $2 AND state IN ('waiting', 'running')
