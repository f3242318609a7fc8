-- Until the end of the fold no name without a schema means anything but a temporary table.
SET LOCAL search_path = pg_temp
