SELECT index_beforehand($1, $2, $3)
