SELECT partition, next_offset FROM projection.checkpoint WHERE topic = $1 AND next_offset > 0
