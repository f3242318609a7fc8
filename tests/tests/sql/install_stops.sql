-- Steps of the append that a test can hold: each waits for a lock that the test has, if it has it. The numbers are those of stops.rs.
CREATE SCHEMA stops;

CREATE FUNCTION stops.wait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock_shared(4919, TG_ARGV[0]::integer);
    RETURN NULL;
END
$$;

CREATE TRIGGER stop_1 AFTER UPDATE ON es.streams FOR EACH STATEMENT EXECUTE FUNCTION stops.wait(1);
CREATE TRIGGER stop_2 AFTER INSERT ON es.command_dedup FOR EACH STATEMENT EXECUTE FUNCTION stops.wait(2);
-- The events are a CTE beside the outbox rows, and come when those are written.
CREATE TRIGGER stop_3 BEFORE INSERT ON es.events FOR EACH STATEMENT EXECUTE FUNCTION stops.wait(3);
CREATE TRIGGER stop_4 AFTER INSERT ON es.events FOR EACH STATEMENT EXECUTE FUNCTION stops.wait(4);
CREATE CONSTRAINT TRIGGER stop_5 AFTER INSERT ON es.events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION stops.wait(5);
