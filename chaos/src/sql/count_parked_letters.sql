-- How many dead letters the read model has.
SELECT count(*) AS letters FROM projection.dead_letter
