-- The database that the cursor belongs to, and the one that this is.
SELECT i.system_identifier, i.timeline, i.database_oid, t.system_identifier, t.timeline, t.database_oid
FROM outbox.identity AS i CROSS JOIN outbox.this_database() AS t
