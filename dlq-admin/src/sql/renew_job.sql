-- $1 job, $2 epoch, $3 how long, in milliseconds; 0 to give it up.
SELECT ops.renew_job($1, $2, $3)
