-- $2 whether to pause, $3 who, $4 why. To resume has the store forget which partitions have stopped: whoever has one sees it, and tries it again.
WITH forgotten AS (
    UPDATE checkpoint SET stopped_code = NULL, stopped_reason = NULL WHERE projection = $1 AND stopped_code IS NOT NULL AND NOT $2
)
SELECT set_paused($1, $2, $3, $4)
