-- How many of these keys are parked.
SELECT count(DISTINCT d.key) AS keys FROM projection.dead_letter AS d WHERE d.key = ANY ($1)
