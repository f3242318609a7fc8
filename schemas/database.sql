-- What a new database is given before its first migration. Run in it by a superuser; the owner is idempo_owner.

-- Nothing is anyone's by default: a migration grants what a role needs, and what it forgets is refused.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE idempo_owner REVOKE EXECUTE ON ROUTINES FROM PUBLIC;
