SELECT a.caller, a.action, a.target, a.outcome FROM ops.audit AS a ORDER BY a.id
