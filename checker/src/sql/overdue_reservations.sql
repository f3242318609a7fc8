SELECT count(*) AS overdue FROM inventory.reservations AS r WHERE r.state = 1 AND r.expires_at < now()
