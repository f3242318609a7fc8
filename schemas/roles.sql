-- The roles of the platform. Run by a superuser before anything else; running it again changes nothing but rights that were taken away.
--
-- Login roles have no password here: who runs a cluster sets them (ALTER ROLE … PASSWORD), or maps certificates to them.
-- What a role may do in a database is granted by that database's migrations, to the groups and to single roles; which databases it may
-- connect to is granted when the database is made.
--
-- idempo_owner                 owns the databases and schemas, runs migrations; no service uses it
-- idempo_command               what a command service needs of es and outbox; its members are the command services
-- idempo_relay_group           what a relay needs of outbox; its members are the relays
-- idempo_reactor_group         what a reactor needs of schema reactor; its members are the processes that have reactors
-- idempo_reader                reads; its member is the auditor
-- idempo_wallet, idempo_inventory, idempo_relay, idempo_inventory_projector, idempo_dlq_admin   one for each kind of process
-- idempo_rebuilder             reads events, for projectors that build a generation anew; of a database, it sees those alone
-- idempo_auditor               reads everything everywhere and changes nothing: the invariant checks, the showcase

-- CREATE ROLE has no IF NOT EXISTS, and two runs at the same moment would collide. The lock is held until the commit: released before it, the
-- next run would meet rows that are not yet settled.
BEGIN;
SELECT pg_advisory_xact_lock(hashtextextended('idempo roles', 0));

DO $$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('idempo_owner', 'LOGIN'),
            ('idempo_command', 'NOLOGIN'),
            ('idempo_relay_group', 'NOLOGIN'),
            ('idempo_reactor_group', 'NOLOGIN'),
            ('idempo_reader', 'NOLOGIN'),
            ('idempo_wallet', 'LOGIN'),
            ('idempo_inventory', 'LOGIN'),
            ('idempo_relay', 'LOGIN'),
            ('idempo_inventory_projector', 'LOGIN'),
            ('idempo_dlq_admin', 'LOGIN'),
            ('idempo_rebuilder', 'LOGIN'),
            ('idempo_auditor', 'LOGIN')
        ) AS w (name, login)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted.name) THEN
            EXECUTE format('CREATE ROLE %I %s', wanted.name, wanted.login);
        END IF;
        EXECUTE format('ALTER ROLE %I %s NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', wanted.name, wanted.login);
    END LOOP;
END
$$;

GRANT idempo_command TO idempo_wallet, idempo_inventory;
GRANT idempo_relay_group TO idempo_relay;
GRANT idempo_reader TO idempo_auditor;
GRANT pg_read_all_data TO idempo_reader;
-- Who is idle in a transaction is part of what is audited.
GRANT pg_read_all_stats TO idempo_reader;

-- A forgotten BEGIN of the auditor must not hold back vacuum, and it can't write even where someone grants it by mistake.
ALTER ROLE idempo_auditor SET default_transaction_read_only = on;
ALTER ROLE idempo_rebuilder SET default_transaction_read_only = on;

COMMIT;
