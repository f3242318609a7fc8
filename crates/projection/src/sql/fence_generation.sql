SELECT f.logic, f.state FROM fence_generation($1, $2) AS f
