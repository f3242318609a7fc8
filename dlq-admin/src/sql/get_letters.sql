-- Dead letters by their identities, in their order: $1 consumer groups, $2 topics, $3 partitions, $4 offsets. Those that are not there are left out.
SELECT l.* FROM ops.letters_named($1, $2, $3, $4) AS n JOIN ops.letter AS l ON l.id = n.id ORDER BY n.at
