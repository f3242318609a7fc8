-- $2 generation, $3 topic, $4 partitions and $5 offsets, $6 their names, $7 whether to discard, $8 whether to force, $9 replays in vain at most, $10 who,
-- $11 why.
SELECT w.place, w.outcome, w.detail FROM wish_for_dead_letters($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) AS w
