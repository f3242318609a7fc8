-- What the server is, and the settings on which promises hang.
SELECT s.name, s.setting
FROM pg_settings AS s
WHERE s.name IN ('server_version', 'fsync', 'full_page_writes', 'synchronous_commit', 'default_transaction_read_only')
ORDER BY s.name
