-- Where the topic ended before the first event is read ($3, for each partition from 0), and in which parts the events are read: those of the streams
-- from $4 to $5, both included. $6: how many there are.
UPDATE rebuild SET
    phase = 'scanning', phase_at = clock_timestamp(), seam_offsets = $3, part_firsts = $4, part_lasts = $5, buckets = cardinality($4::uuid[]),
    events_total = $6
WHERE projection = $1 AND generation = $2 AND phase = 'waiting'
