SELECT remove_generation($1, $2)
