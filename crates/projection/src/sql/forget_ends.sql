-- What became of dead letters is known for 30 days.
DELETE FROM dead_letter_end AS e
WHERE e.ctid = ANY (ARRAY(SELECT o.ctid FROM dead_letter_end AS o WHERE o.ended_at < clock_timestamp() - interval '30 days' LIMIT 1000))
