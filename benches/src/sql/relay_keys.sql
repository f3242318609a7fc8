-- What the rows are made of, for this session: a key each, and what stands behind the row's number in its payload.
CREATE TEMPORARY TABLE bench_keys (n integer PRIMARY KEY, key uuid NOT NULL, tail bytea NOT NULL)
