INSERT INTO parked_record (projection, generation, topic, partition, key_hash, record_offset, key, value, headers, written_at)
SELECT $1, $2, $3, $4, sha256(p.key), p.record_offset, p.key, p.value, p.headers, p.written_at
FROM unnest($5::bigint[], $6::bytea[], $7::bytea[], $8::bytea[], $9::timestamptz[]) AS p (record_offset, key, value, headers, written_at)
