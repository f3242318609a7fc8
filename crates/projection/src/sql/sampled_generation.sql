-- The generation that is live, and its logic, as of the snapshot that this takes.
SELECT p.live_generation, g.code_hash
FROM projection AS p
JOIN generation AS g ON g.projection = p.name AND g.generation = p.live_generation
WHERE p.name = $1
