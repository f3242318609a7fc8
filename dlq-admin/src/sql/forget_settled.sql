-- $1 before when, $2 how many at most.
SELECT ops.forget_settled($1, $2)
