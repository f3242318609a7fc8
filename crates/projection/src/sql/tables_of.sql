SELECT t.tab, t.keys FROM tables_of($1, $2) AS t
