SELECT
    (SELECT count(*) FROM projection.dead_letter), (SELECT count(*) FROM projection.parked_record), (SELECT count(*) FROM projection.dead_letter_end)
