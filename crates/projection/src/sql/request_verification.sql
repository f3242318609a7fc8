-- $3 what it is to be compared with, live or fold; $4 who; $5 why.
SELECT v.outcome, v.detail FROM request_verification($1, $2, $3, $4, $5) AS v
