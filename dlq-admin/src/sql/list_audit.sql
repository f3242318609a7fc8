-- Entries before number $1, newest first, $2 at most.
SELECT a.id, a.at, a.caller, a.action, a.target, a.reason, a.outcome, a.detail FROM ops.audit AS a WHERE a.id < $1 ORDER BY a.id DESC LIMIT $2
