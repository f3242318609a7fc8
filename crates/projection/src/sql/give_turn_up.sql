DELETE FROM turn WHERE projection = $1 AND holder = $2
