-- The first column of table $1 that a statement may give a value to.
SELECT attname::text FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND attidentity = '' AND attgenerated = '' AND NOT attisdropped
ORDER BY attnum
LIMIT 1
