-- $3: for how long, in milliseconds.
INSERT INTO turn AS t (projection, holder, until)
VALUES ($1, $2, clock_timestamp() + $3::bigint * interval '1 ms')
ON CONFLICT (projection) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE t.holder = excluded.holder OR t.until < clock_timestamp()
