CREATE SCHEMA IF NOT EXISTS chaos;
-- Where transactions that are held open write.
CREATE TABLE IF NOT EXISTS chaos.scratch (note text NOT NULL);

-- Every committed move of the outbox's cursor, in order: whoever moves it holds its row's lock while the number is drawn. A take-over, which
-- only gives the cursor a new epoch, is no move.
CREATE TABLE IF NOT EXISTS chaos.cursor_moves (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session integer NOT NULL,
    epoch bigint NOT NULL,
    by_holder boolean NOT NULL,
    s1 pg_snapshot NOT NULL,
    s2 pg_snapshot,
    acked_seq bigint NOT NULL
);
CREATE OR REPLACE FUNCTION chaos.note_cursor_move() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO chaos.cursor_moves (session, epoch, by_holder, s1, s2, acked_seq)
    SELECT pg_backend_pid(), l.epoch, coalesce(l.backend_pid = pg_backend_pid(), false), NEW.s1, NEW.s2, NEW.acked_seq
    FROM outbox.lease AS l;
    RETURN NULL;
END
$$;
CREATE OR REPLACE TRIGGER chaos_notes_moves AFTER UPDATE OF s1, s2, acked_seq ON outbox.cursor
FOR EACH ROW EXECUTE FUNCTION chaos.note_cursor_move();
