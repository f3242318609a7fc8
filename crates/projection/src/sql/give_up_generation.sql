-- $3 cancel or drop, $4 who, $5 why.
SELECT g.outcome, g.detail FROM give_up_generation($1, $2, $3, $4, $5) AS g
