SELECT f.bucket, f.row_count, f.low, f.high FROM fingerprints($1, $2, $3, $4) AS f
