-- The partition is this lease's until the transaction ends: who takes it waits.
SELECT FROM checkpoint AS c
WHERE c.projection = $1 AND c.generation = $2 AND c.topic = $3 AND c.partition = $4 AND c.epoch = $5
FOR NO KEY UPDATE
