-- Has consumers of generations $2 stop at offsets $4 of partitions $3, for at most $5 milliseconds. The arrays are of one length.
INSERT INTO hold (projection, generation, partition, before_offset, until)
SELECT $1, h.generation, h.partition, h.before_offset, clock_timestamp() + $5::bigint * interval '1 ms'
FROM unnest($2::integer[], $3::integer[], $4::bigint[]) AS h (generation, partition, before_offset)
ON CONFLICT (projection, generation, partition) DO UPDATE SET before_offset = excluded.before_offset, until = excluded.until
