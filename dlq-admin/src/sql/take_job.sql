-- $1 who, $2 how long, in milliseconds.
SELECT j.id, j.epoch, j.action, j.rate, j.force, j.caller, j.reason FROM ops.take_job($1, $2) AS j
