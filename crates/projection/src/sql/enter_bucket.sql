INSERT INTO rebuilt_bucket (projection, generation, bucket, events) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
