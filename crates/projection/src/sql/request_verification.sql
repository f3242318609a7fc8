-- $3 who, $4 why.
SELECT v.outcome, v.detail FROM request_verification($1, $2, $3, $4) AS v
