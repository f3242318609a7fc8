SELECT v.stream_id, v.version FROM projection.versions_of($1, $2, $3) AS v
