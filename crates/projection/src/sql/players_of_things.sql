SELECT p.player FROM players_of_things($1, $2) AS p
