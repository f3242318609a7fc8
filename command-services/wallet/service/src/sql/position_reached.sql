-- Whether each of the streams has at least the version beside it.
SELECT NOT EXISTS (
    SELECT FROM unnest($1::uuid[], $2::bigint[]) AS p (stream_id, version)
    LEFT JOIN es.streams AS s ON s.stream_id = p.stream_id
    WHERE coalesce(s.version, 0) < p.version
) AS reached
