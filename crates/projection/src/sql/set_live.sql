-- $2 the generation that must be live, or 0; $3 the one that is to be; $4 whether to force it; $5 switch or roll_back; $6 who; $7 why.
SELECT s.outcome, s.detail, s.number FROM set_live($1, $2, $3, $4, $5, $6, $7) AS s
