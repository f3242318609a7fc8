SELECT reactor.settle($1, $2, $3, $4)
