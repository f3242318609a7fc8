-- The columns, constraints, indexes, settings and rights of all tables in schema $1, a line each, without the schema's name.
SELECT replace(d.line, $1::text || '.', '') FROM (
    SELECT format('%s %s %s %s %s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attcollation) AS line
    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r'
    UNION ALL
    SELECT format('%s %s', c.relname, pg_get_constraintdef(o.oid)) FROM pg_class AS c JOIN pg_constraint AS o ON o.conrelid = c.oid
    WHERE c.relnamespace = $1::text::regnamespace
    UNION ALL
    SELECT format('%s %s', i.tablename, i.indexdef) FROM pg_indexes AS i WHERE i.schemaname = $1::text
    UNION ALL
    SELECT format('%s %s %s', c.relname, c.reloptions, c.relacl) FROM pg_class AS c WHERE c.relnamespace = $1::text::regnamespace AND c.relkind = 'r'
) AS d
ORDER BY 1
