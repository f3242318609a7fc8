-- Locks it as it is until the end of the transaction: who cancels a rebuild waits for the parts that are being committed, and none follows.
SELECT FROM generation AS g WHERE g.projection = $1 AND g.generation = $2 AND g.state = 'building' FOR SHARE
