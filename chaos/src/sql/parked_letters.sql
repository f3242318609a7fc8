-- What the read model has parked: the names of its dead letters, and whether nobody has asked for anything to be done with one.
SELECT format('deadLetters/%s.%s.%s.%s', d.group_id, d.topic, d.partition, d.record_offset) AS name, d.state = 'parked' AS waits
FROM projection.dead_letter AS d
