-- $3 the live generation; $4 what it is compared with.
UPDATE verification SET state = CASE against WHEN 'fold' THEN 'running_fold' ELSE 'running' END, compared_with = $3
WHERE projection = $1 AND generation = $2 AND against = $4 AND state IN ('waiting', 'running', 'waiting_fold', 'running_fold')
