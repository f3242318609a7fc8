-- How many records of topic $2 generation $1 has: none of its partitions begins above 0.
SELECT coalesce(sum(c.next_offset), 0)::bigint FROM projection.checkpoint AS c WHERE c.projection = 'inventory' AND c.generation = $1 AND c.topic = $2
