-- A generation can be compared with the fold of the events themselves as well: where the live generation is wrong, to be equal to it says nothing.
--
-- The fold is made in temporary tables of the session that compares, which nobody else sees and which end with it, however it ends. Where a function
-- takes the number of a generation to read rows of, 0 stands for them.

-- against: what the generation is compared with. compared_with is the live generation in either case.
-- live_buckets_different: of a comparison with the fold, in how many parts the generation differs from the live one; that is no verdict.
-- waiting_fold, running_fold: as waiting and running, by names that a process which knows only of the live generation leaves alone.
ALTER TABLE projection.verification
    ADD COLUMN against text NOT NULL DEFAULT 'live' CHECK (against IN ('live', 'fold')),
    ADD COLUMN live_buckets_different integer NOT NULL DEFAULT 0,
    DROP CONSTRAINT verification_state_check,
    ADD CHECK (state IN ('waiting', 'running', 'waiting_fold', 'running_fold', 'equal', 'different', 'failed'));

-- Asks for a comparison. With the fold the live generation can be compared too: whether it is right is a good question before it is replaced.
CREATE FUNCTION projection.request_verification(name text, n integer, of_against text, who text, why text, OUT outcome text, OUT detail text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT g.state INTO detail FROM projection.generation AS g WHERE g.projection = name AND g.generation = n FOR UPDATE;
    IF detail IS NULL THEN
        outcome := 'GENERATION_NOT_FOUND';
        detail := '';
    ELSIF NOT (detail IN ('ready', 'retired') OR detail = 'live' AND of_against = 'fold') THEN
        outcome := 'GENERATION_STATE';
    ELSE
        outcome := 'DONE';
        INSERT INTO projection.verification AS v (projection, generation, against, state, caller, reason)
        VALUES (name, n, of_against, CASE of_against WHEN 'fold' THEN 'waiting_fold' ELSE 'waiting' END, who, why)
        ON CONFLICT (projection, generation) DO UPDATE SET against = excluded.against, state = excluded.state, compared_with = NULL, caller = who,
            reason = why, rows = 0, buckets = 0, buckets_different = 0, live_buckets_different = 0, started_at = clock_timestamp(), ended_at = NULL,
            failure = NULL, differences = '[]'
        -- One that is under way stays, unless another question is asked.
        WHERE v.against <> excluded.against OR v.state NOT IN ('waiting', 'running', 'waiting_fold', 'running_fold');
        detail := detail || CASE of_against WHEN 'fold' THEN ', against the fold' ELSE '' END;
    END IF;
    PERFORM projection.record_audit(name, who, 'verify', n::text, why, outcome, detail);
END
$$;

-- For processes that know only of the live generation.
CREATE OR REPLACE FUNCTION projection.request_verification(name text, n integer, who text, why text, OUT outcome text, OUT detail text)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT v.outcome, v.detail FROM projection.request_verification(name, n, 'live', who, why) AS v
$$;

-- The switch, as of V4; a generation may also have been found equal to the fold. That is true of it whichever generation is live.
CREATE OR REPLACE FUNCTION projection.set_live(
    name text, expected integer, wanted integer, force boolean, action text, who text, why text, OUT outcome text, OUT detail text, OUT number integer
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    live integer;
    found_state text;
    found_verdict text;
BEGIN
    SELECT p.live_generation, CASE WHEN action = 'roll_back' THEN p.previous_generation ELSE wanted END INTO live, number
    FROM projection.projection AS p WHERE p.name = set_live.name FOR UPDATE;
    -- A comparison with a generation that is not live any more says nothing about the one that is.
    SELECT g.state, CASE WHEN v.against = 'fold' OR v.compared_with = live THEN v.state END INTO found_state, found_verdict
    FROM projection.generation AS g LEFT JOIN projection.verification AS v USING (projection, generation)
    WHERE g.projection = set_live.name AND g.generation = number FOR UPDATE OF g;
    detail := format('from %s', live);
    PERFORM FROM projection.checkpoint AS c WHERE c.projection = set_live.name AND c.generation = live ORDER BY c.partition FOR SHARE;
    IF number IS NULL THEN
        outcome := 'NO_PREVIOUS_GENERATION';
    ELSIF found_state IS NULL THEN
        outcome := 'GENERATION_NOT_FOUND';
    ELSIF NOT expected IN (0, live) THEN
        outcome := 'LIVE_GENERATION_MISMATCH';
        detail := live::text;
    ELSIF number = live THEN
        outcome := 'DONE';
    ELSIF NOT found_state IN ('ready', 'retired') THEN
        outcome := 'GENERATION_STATE';
        detail := found_state;
    ELSIF NOT force AND action = 'switch' AND found_verdict IS DISTINCT FROM 'equal' THEN
        outcome := 'GENERATION_UNVERIFIED';
        detail := coalesce(found_verdict, 'never compared');
    ELSIF NOT force AND NOT projection.has_all_of(name, number, live) THEN
        outcome := 'GENERATION_LAGGING';
    ELSE
        outcome := 'DONE';
        UPDATE projection.projection AS p SET live_generation = number, previous_generation = live
        WHERE p.name = set_live.name AND p.live_generation = live;
        UPDATE projection.generation AS g SET state = 'retired' WHERE g.projection = set_live.name AND g.generation = live;
        UPDATE projection.generation AS g SET state = 'live', live_at = clock_timestamp()
        WHERE g.projection = set_live.name AND g.generation = number;
        detail := detail || CASE WHEN force THEN ', forced' ELSE '' END;
    END IF;
    PERFORM projection.record_audit(name, who, action, coalesce(number::text, ''), why, outcome, detail);
END
$$;

-- Where the rows of a generation's table are, as a query: as of V4, and for 0 in the session's temporary tables.
CREATE OR REPLACE FUNCTION projection.rows_of(name text, n integer, tab text) RETURNS text LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN n = 0 AND tab = 'stream_version' THEN 'SELECT stream_id, version FROM pg_temp.stream_version'
        WHEN n = 0 THEN format('SELECT * FROM pg_temp.%I', tab)
        WHEN tab <> 'stream_version' THEN format('SELECT * FROM %I.%I', projection.model_of(name, n), tab)
        WHEN to_regclass(format('%I.stream_version', projection.model_of(name, n))) IS NOT NULL
            THEN format('SELECT stream_id, version FROM %I.stream_version', projection.model_of(name, n))
        ELSE format('SELECT stream_id, version FROM projection.stream_version WHERE generation = %s', n)
    END
$$;

-- The last versions of the streams with ids from first_stream to last_stream, both included, in a generation.
CREATE FUNCTION projection.versions_between(name text, n integer, first_stream uuid, last_stream uuid)
RETURNS TABLE (stream_id uuid, version bigint) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE
        format('SELECT v.stream_id, v.version FROM (%s) AS v WHERE v.stream_id BETWEEN $1 AND $2', projection.rows_of(name, n, 'stream_version'))
        USING first_stream, last_stream;
END
$$;

-- The compared tables that a generation has, with their keys.
CREATE FUNCTION projection.tables_of(name text, n integer) RETURNS TABLE (tab text, keys text[]) LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT c.tab, c.keys
    FROM projection.compared_tables() AS c
    WHERE c.tab = 'stream_version' OR NOT EXISTS (
        SELECT FROM unnest(c.keys) AS k (key)
        WHERE NOT EXISTS (
            SELECT FROM pg_attribute AS a
            WHERE a.attrelid = to_regclass(format('%I.%I', projection.model_of(name, n), c.tab)) AND a.attname = k.key AND NOT a.attisdropped
        )
    )
$$;

-- Begins a fold in the session: the tables of generation n, empty and without indexes, as temporary ones; beside them fold_beyond, for streams of
-- which the event store has later versions than the generation. The projector's role may make no tables of its own, and needs to make none.
CREATE FUNCTION projection.begin_fold(n integer) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model text := projection.model_of('inventory', n);
BEGIN
    EXECUTE format('CREATE TEMPORARY TABLE items (LIKE %I.items INCLUDING CONSTRAINTS)', model);
    EXECUTE format('CREATE TEMPORARY TABLE items_found (LIKE %I.items)', model);
    EXECUTE format('CREATE TEMPORARY TABLE stacks (LIKE %I.stacks INCLUDING CONSTRAINTS)', model);
    EXECUTE format('CREATE TEMPORARY TABLE loadouts (LIKE %I.loadouts)', model);
    EXECUTE format('CREATE TEMPORARY TABLE item_events (LIKE %I.item_events INCLUDING CONSTRAINTS)', model);
    CREATE TEMPORARY TABLE stream_version (generation integer NOT NULL, stream_id uuid NOT NULL, version bigint NOT NULL, event_id uuid);
    CREATE TEMPORARY TABLE fold_beyond (stream_id uuid NOT NULL, version bigint NOT NULL);
    GRANT SELECT, INSERT ON
        pg_temp.items, pg_temp.items_found, pg_temp.stacks, pg_temp.loadouts, pg_temp.item_events, pg_temp.stream_version, pg_temp.fold_beyond
    TO idempo_inventory_projector;
END
$$;

-- What follows from the filled tables, as index_tables does it.
CREATE FUNCTION projection.end_fold() RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO pg_temp.items SELECT DISTINCT ON (f.item_id) f.* FROM pg_temp.items_found AS f
    ORDER BY f.item_id, f.hop DESC, f.revision DESC, f.updated_at DESC;
END
$$;

-- Streams of which a generation does not have yet what the fold saw beyond it: how many, and one of them with what the generation and the event store
-- have.
CREATE FUNCTION projection.behind_fold(
    name text, n integer, OUT streams bigint, OUT stream uuid, OUT version bigint, OUT store_version bigint
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    EXECUTE format(
        'SELECT count(*) OVER (), b.stream_id, coalesce(v.version, 0), b.version FROM pg_temp.fold_beyond AS b '
        'LEFT JOIN (%s) AS v USING (stream_id) WHERE coalesce(v.version, 0) < b.version ORDER BY b.stream_id LIMIT 1',
        projection.rows_of(name, n, 'stream_version')
    ) INTO streams, stream, version, store_version;
    streams := coalesce(streams, 0);
END
$$;

GRANT UPDATE (live_buckets_different) ON projection.verification TO idempo_inventory_projector;
GRANT EXECUTE ON FUNCTION
    projection.request_verification(text, integer, text, text, text), projection.versions_between, projection.tables_of, projection.begin_fold,
    projection.end_fold, projection.behind_fold
TO idempo_inventory_projector;
