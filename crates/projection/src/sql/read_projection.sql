SELECT p.live_generation, p.previous_generation, p.paused_by, p.pause_reason, p.paused_at
FROM projection AS p
WHERE p.name = $1
