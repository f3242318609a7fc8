DELETE FROM hold WHERE projection = $1 AND generation = ANY ($2::integer[])
