SELECT finish_tables($1, $2, $3)
