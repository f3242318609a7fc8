-- What people want of the relays.
SELECT c.revision, c.paused, c.paused_by, c.pause_reason, c.step_down_epoch FROM outbox.control AS c
