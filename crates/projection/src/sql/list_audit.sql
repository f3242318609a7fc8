-- Audit entries of a projection before id $2, newest first, $3 at most.
SELECT a.id, a.at, a.caller, a.action, a.target, a.reason, a.outcome, a.detail
FROM audit AS a
WHERE a.projection = $1 AND a.id < $2::bigint
ORDER BY a.id DESC
LIMIT $3::bigint
