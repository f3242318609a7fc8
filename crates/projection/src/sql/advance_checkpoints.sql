-- Those that are where their batches begin, under the batches' epochs; in the order of the parameters, which is that of the partitions.
UPDATE checkpoint AS c SET next_offset = b.next_offset, newest_at = coalesce(b.newest_at, c.newest_at), last_event_id = b.last_event_id
FROM unnest($4::integer[], $5::bigint[], $6::bigint[], $7::bigint[], $8::timestamptz[], $9::uuid[])
    AS b (partition, epoch, begins_at, next_offset, newest_at, last_event_id)
WHERE c.projection = $1 AND c.generation = $2 AND c.topic = $3
    AND c.partition = b.partition AND c.epoch = b.epoch AND c.next_offset = b.begins_at
