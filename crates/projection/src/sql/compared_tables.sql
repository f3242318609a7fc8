SELECT c.tab, c.keys FROM compared_tables() AS c
