SELECT count(*) AS overdue FROM wallet.holds AS h WHERE h.state = 1 AND h.expires_at < now()
