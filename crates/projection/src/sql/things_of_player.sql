SELECT t.thing FROM things_of_player($1, $2) AS t
