SELECT opened_at FROM wallet.wallets WHERE player_id = $1
