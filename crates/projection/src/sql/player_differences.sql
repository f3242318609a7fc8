-- Of generation $1, player $2 and things $3; at most $4 of each table.
SELECT d.tab, d.key, d.found, d.fold FROM player_differences($1, $2, $3, $4) AS d
