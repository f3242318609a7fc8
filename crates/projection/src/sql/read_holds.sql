SELECT h.generation, h.partition, h.before_offset FROM hold AS h WHERE h.projection = $1 AND h.until > clock_timestamp()
