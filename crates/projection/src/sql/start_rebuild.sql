-- $1 projection, $2 its logic, $3 source, $4 topic, $5 workers, $6 events a second, $7 where the log begins, $8 who, $9 why.
SELECT s.outcome, s.number, s.detail FROM start_rebuild($1, $2, $3, $4, $5, $6, $7, $8, $9) AS s
