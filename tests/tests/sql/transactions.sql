SELECT count(*) FROM wallet.transactions AS t WHERE t.transaction_id = $1
