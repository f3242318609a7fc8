SELECT a.caller, a.action, a.target, a.outcome FROM projection.audit AS a ORDER BY a.id
