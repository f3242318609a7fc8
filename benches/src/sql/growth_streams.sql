-- $1 streams with 10 events each in all. The first ones are given ($2 their ids, $3 their keys), the others are anybody's.
INSERT INTO es.streams (stream_id, category, partition_key, version)
SELECT coalesce(u.id, gen_random_uuid()), 1, coalesce(u.key, gen_random_uuid()), 10
FROM generate_series(1, $1::integer) AS g (n) LEFT JOIN unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY AS u (id, key, n) ON u.n = g.n
