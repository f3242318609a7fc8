SELECT d.key, d.live_row, d.other_row FROM differences($1, $2, $3, $4, $5, $6, $7) AS d
