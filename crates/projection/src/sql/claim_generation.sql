-- The first projector to start on a generation says which logic fills it; all others must have the same.
UPDATE generation SET code_hash = $3
WHERE projection = $1 AND generation = $2 AND coalesce(code_hash, $3) = $3
