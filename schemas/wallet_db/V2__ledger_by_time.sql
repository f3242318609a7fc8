-- Finds the postings of the last minutes, to watch that the ledger sums to zero without reading all of it. Both tables are written in the order
-- of time, so a summary of each range of blocks is as good as a tree, and costs an append nothing.
CREATE INDEX entries_created_at ON wallet.entries USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX transactions_created_at ON wallet.transactions USING brin (created_at) WITH (pages_per_range = 32, autosummarize = on);
