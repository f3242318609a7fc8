-- Of generation $2, the streams from $3 to $4.
SELECT v.stream_id, v.version FROM projection.versions_between($1, $2, $3, $4) AS v
