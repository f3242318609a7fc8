SELECT r.tab, r.row_count, r.missing, r.changed, r.superfluous FROM replace_player($1, $2, $3) AS r
