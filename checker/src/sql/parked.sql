-- Records of a generation that wait for people: they are below its checkpoints, and not in its rows.
SELECT d.topic, d.partition, d.record_offset FROM projection.dead_letter AS d WHERE d.generation = $1 AND d.state <> 'draining'
UNION ALL
SELECT r.topic, r.partition, r.record_offset FROM projection.parked_record AS r WHERE r.generation = $1
