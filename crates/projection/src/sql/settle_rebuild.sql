SELECT settle_rebuild($1, $2)
