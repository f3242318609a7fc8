SELECT b.streams, b.stream, b.version, b.store_version FROM behind_fold($1, $2) AS b
