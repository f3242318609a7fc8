-- Generations as people operate them: built anew beside the live one, compared, switched to, rolled back, dropped. What is here is the same for
-- every projection; the tables of a model are made by create_tables and index_tables and named by compared_tables, which come next.
--
-- What people want is written by the functions below, each in one transaction with its audit entry, refused wishes too; they answer `outcome`:
-- DONE, or the reason of the refusal. Processes of the projector look here several times a second and heed it. Long work (a rebuild, a
-- comparison, the removal of tables) is done by the process that has the turn.

ALTER TABLE projection.projection
    ADD COLUMN previous_generation integer,
    ADD COLUMN last_generation integer NOT NULL DEFAULT 1,
    ADD COLUMN paused_by text,
    ADD COLUMN pause_reason text,
    ADD COLUMN paused_at timestamptz;

-- dropping: nobody may use it any more; from drop_at on its tables are removed. Until then those who have not heard of it may go on.
ALTER TABLE projection.generation
    DROP CONSTRAINT generation_state_check,
    ADD CHECK (state IN ('building', 'ready', 'live', 'retired', 'dropping')),
    ADD COLUMN live_at timestamptz,
    ADD COLUMN drop_at timestamptz CHECK ((drop_at IS NULL) = (state <> 'dropping'));

-- How a generation is built, or was. There is no row for one that was made by a migration.
-- seam_offsets: for each partition from 0, where the topic ended before the event store was read: from there on its consumer reads.
-- target_offsets: for each partition, where the topic ended when the consumer began: beyond these it is ready.
-- buckets: the event store is read in so many parts, of the streams with ids from part_firsts to part_lasts, both included. They are cut along the
-- streams that there were after seam_offsets were asked for: all events of later ones come beyond these.
CREATE TABLE projection.rebuild (
    projection text NOT NULL,
    generation integer NOT NULL,
    source text NOT NULL CHECK (source IN ('event_store', 'kafka')),
    phase text NOT NULL DEFAULT 'waiting' CHECK (phase IN ('waiting', 'scanning', 'indexing', 'catching_up', 'done', 'failed')),
    caller text NOT NULL,
    reason text NOT NULL,
    workers integer NOT NULL,
    events_per_second_max bigint NOT NULL,
    topic text NOT NULL,
    seam_offsets bigint[],
    target_offsets bigint[],
    part_firsts uuid[],
    part_lasts uuid[],
    buckets integer NOT NULL DEFAULT 0,
    events_total bigint NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    phase_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ready_at timestamptz,
    failure_code text,
    failure text,
    PRIMARY KEY (projection, generation),
    FOREIGN KEY (projection, generation) REFERENCES projection.generation (projection, generation)
);
-- One rebuild of a projection at a time.
CREATE UNIQUE INDEX rebuild_under_way ON projection.rebuild (projection) WHERE phase <> 'done';

-- The parts of the event store that are in the generation. Written in the transaction of their rows, which so are there once, whoever brings them.
CREATE TABLE projection.rebuilt_bucket (
    projection text NOT NULL,
    generation integer NOT NULL,
    bucket integer NOT NULL,
    events bigint NOT NULL,
    rebuilt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (projection, generation, bucket),
    FOREIGN KEY (projection, generation) REFERENCES projection.rebuild (projection, generation)
);

-- The last comparison of a generation with the one that was live. differences: a sample, as an array of {table, key, live_row, row}.
CREATE TABLE projection.verification (
    projection text NOT NULL,
    generation integer NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'running', 'equal', 'different', 'failed')),
    compared_with integer,
    caller text NOT NULL,
    reason text NOT NULL,
    rows bigint NOT NULL DEFAULT 0,
    buckets integer NOT NULL DEFAULT 0,
    buckets_different integer NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    failure text,
    differences text NOT NULL DEFAULT '[]',
    PRIMARY KEY (projection, generation),
    FOREIGN KEY (projection, generation) REFERENCES projection.generation (projection, generation)
);

-- Offsets that consumers don't go beyond for a moment, so that two generations come to have the same events. Void after `until`, so that nobody
-- who dies leaves a consumer standing.
CREATE TABLE projection.hold (
    projection text NOT NULL,
    generation integer NOT NULL,
    partition integer NOT NULL,
    before_offset bigint NOT NULL,
    until timestamptz NOT NULL,
    PRIMARY KEY (projection, generation, partition)
);

-- Who does the long work of a projection. It spares double work and no more: what is done twice has its effect once.
CREATE TABLE projection.turn (
    projection text PRIMARY KEY,
    holder text NOT NULL,
    until timestamptz NOT NULL
);

-- Who did what, and what came of it. outcome is DONE, or the reason of the refusal. It outlives the generations.
CREATE TABLE projection.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    projection text NOT NULL,
    caller text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    reason text NOT NULL,
    outcome text NOT NULL,
    detail text NOT NULL
);

CREATE FUNCTION projection.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON projection.audit
FOR EACH STATEMENT EXECUTE FUNCTION projection.refuse_change();

-- The schema of a generation's tables.
CREATE FUNCTION projection.model_of(name text, n integer) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT format('%s_g%s', name, n) $$;

-- Adds a row to the audit. Texts are cut to what is worth keeping.
CREATE FUNCTION projection.record_audit(name text, caller text, action text, target text, reason text, outcome text, detail text) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO projection.audit (projection, caller, action, target, reason, outcome, detail)
    VALUES (left(name, 64), left(caller, 64), left(action, 64), left(target, 1000), left(reason, 1000), left(outcome, 64), left(detail, 1000))
    RETURNING id
$$;

-- Whether a generation has all that another one has, and goes on: then reads that come to it don't go back in time.
CREATE FUNCTION projection.has_all_of(name text, n integer, other integer) RETURNS boolean LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT EXISTS (
        SELECT FROM projection.checkpoint AS o
        LEFT JOIN projection.checkpoint AS c
            ON c.projection = o.projection AND c.generation = n AND c.topic = o.topic AND c.partition = o.partition
        WHERE o.projection = name AND o.generation = other AND o.next_offset > coalesce(c.next_offset, 0)
    ) AND NOT EXISTS (
        SELECT FROM projection.checkpoint AS c WHERE c.projection = name AND c.generation = n AND c.stopped_code IS NOT NULL
    )
$$;

-- Begins a generation and asks for it to be built. `log_starts`: where Kafka's log begins, for each partition; only for a rebuild from Kafka, which
-- needs them to be 0.
CREATE FUNCTION projection.start_rebuild(
    name text, logic text, rebuild_source text, rebuild_topic text, workers_max integer, events_per_second bigint, log_starts bigint[],
    who text, why text, OUT outcome text, OUT number integer, OUT detail text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    other record;
BEGIN
    PERFORM FROM projection.projection AS p WHERE p.name = start_rebuild.name FOR UPDATE;
    SELECT r.generation, r.caller INTO other FROM projection.rebuild AS r WHERE r.projection = start_rebuild.name AND r.phase <> 'done';
    IF FOUND THEN
        outcome := 'REBUILD_UNDER_WAY';
        number := other.generation;
        detail := other.caller;
    ELSIF EXISTS (SELECT FROM unnest(log_starts) AS s (log_start) WHERE s.log_start > 0) THEN
        outcome := 'HISTORY_INCOMPLETE';
        SELECT string_agg(format('partition %s begins at offset %s', s.partition - 1, s.log_start), ', ' ORDER BY s.partition) INTO detail
        FROM unnest(log_starts) WITH ORDINALITY AS s (log_start, partition) WHERE s.log_start > 0;
    ELSE
        outcome := 'DONE';
        UPDATE projection.projection AS p SET last_generation = p.last_generation + 1
        WHERE p.name = start_rebuild.name RETURNING p.last_generation INTO STRICT number;
        INSERT INTO projection.generation (projection, generation, state, code_hash) VALUES (name, number, 'building', logic);
        INSERT INTO projection.rebuild (projection, generation, source, topic, caller, reason, workers, events_per_second_max)
        VALUES (name, number, rebuild_source, rebuild_topic, who, why, workers_max, events_per_second);
        PERFORM projection.create_tables(number);
        detail := format('from %s', rebuild_source);
    END IF;
    PERFORM projection.record_audit(name, who, 'rebuild', coalesce(number::text, ''), why, outcome, coalesce(detail, ''));
END
$$;

-- Has a generation removed: one that is being built (`cancel`), or one that is ready or was live (`drop`).
CREATE FUNCTION projection.give_up_generation(name text, n integer, action text, who text, why text, OUT outcome text, OUT detail text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM projection.projection AS p WHERE p.name = give_up_generation.name FOR UPDATE;
    SELECT g.state INTO detail FROM projection.generation AS g WHERE g.projection = give_up_generation.name AND g.generation = n FOR UPDATE;
    IF detail IS NULL THEN
        outcome := 'GENERATION_NOT_FOUND';
        detail := '';
    ELSIF NOT detail = ANY (CASE action WHEN 'cancel' THEN '{building}'::text[] ELSE '{ready,retired}'::text[] END) THEN
        outcome := 'GENERATION_STATE';
    ELSE
        outcome := 'DONE';
        -- Every process looks for what it may use several times in these seconds.
        UPDATE projection.generation AS g SET state = 'dropping', drop_at = clock_timestamp() + interval '2 seconds'
        WHERE g.projection = give_up_generation.name AND g.generation = n;
        UPDATE projection.projection AS p SET previous_generation = NULL WHERE p.name = give_up_generation.name AND p.previous_generation = n;
    END IF;
    PERFORM projection.record_audit(name, who, action, n::text, why, outcome, detail);
END
$$;

-- Removes the tables of a generation that was given up, and all that is noted of it but the audit. Answers whether it did. A straggler that still
-- writes to it holds its lock for the length of a batch; one that comes later finds neither its checkpoint nor its tables.
CREATE FUNCTION projection.remove_generation(name text, n integer) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
    PERFORM FROM projection.generation AS g
    WHERE g.projection = name AND g.generation = n AND g.state = 'dropping' AND g.drop_at <= clock_timestamp() FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM projection.checkpoint AS c WHERE c.projection = name AND c.generation = n;
    DELETE FROM projection.stream_version AS v WHERE v.generation = n;
    DELETE FROM projection.rebuilt_bucket AS b WHERE b.projection = name AND b.generation = n;
    DELETE FROM projection.rebuild AS r WHERE r.projection = name AND r.generation = n;
    DELETE FROM projection.verification AS v WHERE v.projection = name AND v.generation = n;
    DELETE FROM projection.hold AS h WHERE h.projection = name AND h.generation = n;
    EXECUTE format('DROP SCHEMA %I CASCADE', projection.model_of(name, n));
    DELETE FROM projection.generation AS g WHERE g.projection = name AND g.generation = n;
    RETURN true;
END
$$;

-- Ends the part of a rebuild that needs no consumer: the indexes, and where the consumer begins. One transaction, so killed in the middle it is
-- done anew. Answers false where it was done.
CREATE FUNCTION projection.finish_tables(name text, n integer, targets bigint[]) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET maintenance_work_mem = '64MB' AS $$
DECLARE
    job record;
BEGIN
    SELECT r.* INTO job FROM projection.rebuild AS r JOIN projection.generation AS g USING (projection, generation)
    WHERE r.projection = name AND r.generation = n AND g.state = 'building' FOR UPDATE;
    IF NOT FOUND OR NOT (job.phase = 'indexing' OR job.source = 'kafka' AND job.phase = 'waiting') THEN
        RETURN false;
    END IF;
    PERFORM projection.index_tables(n);
    IF job.source = 'event_store' THEN
        INSERT INTO projection.checkpoint (projection, generation, topic, partition, next_offset)
        SELECT name, n, job.topic, s.number - 1, s.next_offset
        FROM unnest(job.seam_offsets) WITH ORDINALITY AS s (next_offset, number);
    END IF;
    UPDATE projection.rebuild AS r SET phase = 'catching_up', phase_at = clock_timestamp(), target_offsets = targets
    WHERE r.projection = name AND r.generation = n;
    RETURN true;
END
$$;

-- Makes a generation ready that has what was in the topic when its consumer began. Where the live one goes on, to have what that one has is enough:
-- a topic may end in records that nobody reads.
CREATE FUNCTION projection.settle_rebuild(name text, n integer) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE projection.rebuild AS r SET phase = 'done', phase_at = clock_timestamp(), ready_at = clock_timestamp()
    WHERE r.projection = settle_rebuild.name AND r.generation = n AND r.phase = 'catching_up' AND NOT EXISTS (
        SELECT FROM unnest(r.target_offsets) WITH ORDINALITY AS t (target, number)
        JOIN projection.projection AS p ON p.name = r.projection
        LEFT JOIN projection.checkpoint AS c
            ON c.projection = r.projection AND c.generation = n AND c.topic = r.topic AND c.partition = t.number - 1
        LEFT JOIN projection.checkpoint AS l
            ON l.projection = r.projection AND l.generation = p.live_generation AND l.topic = r.topic AND l.partition = t.number - 1
            AND l.stopped_code IS NULL
        WHERE coalesce(c.next_offset, 0) < least(t.target, l.next_offset)
    );
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE projection.generation AS g SET state = 'ready' WHERE g.projection = settle_rebuild.name AND g.generation = n AND g.state = 'building';
    RETURN FOUND;
END
$$;

-- Asks for a comparison with the live generation.
CREATE FUNCTION projection.request_verification(name text, n integer, who text, why text, OUT outcome text, OUT detail text)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT g.state INTO detail FROM projection.generation AS g WHERE g.projection = name AND g.generation = n FOR UPDATE;
    IF detail IS NULL THEN
        outcome := 'GENERATION_NOT_FOUND';
        detail := '';
    ELSIF NOT detail IN ('ready', 'retired') THEN
        outcome := 'GENERATION_STATE';
    ELSE
        outcome := 'DONE';
        INSERT INTO projection.verification AS v (projection, generation, caller, reason) VALUES (name, n, who, why)
        ON CONFLICT (projection, generation) DO UPDATE SET state = 'waiting', compared_with = NULL, caller = who, reason = why, rows = 0, buckets = 0,
            buckets_different = 0, started_at = clock_timestamp(), ended_at = NULL, failure = NULL, differences = '[]'
        WHERE v.state NOT IN ('waiting', 'running');
    END IF;
    PERFORM projection.record_audit(name, who, 'verify', n::text, why, outcome, detail);
END
$$;

-- The switch: one compare-and-set of live_generation. Nobody who reads waits for it. `action` is switch or roll_back; `expected` 0 stands for
-- whichever generation is live. The checkpoints of the live generation stand still for its length, so what was compared is so at the commit.
CREATE FUNCTION projection.set_live(
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
    SELECT g.state, CASE WHEN v.compared_with = live THEN v.state END INTO found_state, found_verdict
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

-- Stops the consumers of all generations, or has them go on.
CREATE FUNCTION projection.set_paused(name text, pause boolean, who text, why text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE projection.projection AS p SET
        paused_by = CASE WHEN pause THEN who END, pause_reason = CASE WHEN pause THEN why END, paused_at = CASE WHEN pause THEN clock_timestamp() END
    WHERE p.name = set_paused.name AND (p.paused_at IS NOT NULL) <> pause;
    PERFORM projection.record_audit(name, who, CASE WHEN pause THEN 'pause' ELSE 'resume' END, '', why, 'DONE', '');
END
$$;

-- Where the rows of a generation's table are, as a query. Generation 1 has the versions of its streams in a table that is shared.
CREATE FUNCTION projection.rows_of(name text, n integer, tab text) RETURNS text LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN tab <> 'stream_version' THEN format('SELECT * FROM %I.%I', projection.model_of(name, n), tab)
        WHEN to_regclass(format('%I.stream_version', projection.model_of(name, n))) IS NOT NULL
            THEN format('SELECT stream_id, version FROM %I.stream_version', projection.model_of(name, n))
        ELSE format('SELECT stream_id, version FROM projection.stream_version WHERE generation = %s', n)
    END
$$;

-- The last version of each stream in a generation.
CREATE FUNCTION projection.stream_versions(name text, n integer) RETURNS TABLE (stream_id uuid, version bigint) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE projection.rows_of(name, n, 'stream_version');
END
$$;

-- For each of 256 parts of a table, by the last byte of its key (the first ones are the time of its making): how many rows, and 128 bits that follow from them in whichever order they are.
-- Rows of a table differ in their keys, so none takes another's bits away.
CREATE FUNCTION projection.fingerprints(name text, n integer, tab text, key text)
RETURNS TABLE (bucket integer, row_count bigint, low bigint, high bigint) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT h.bucket, count(*), bit_xor(h.low), bit_xor(h.high) FROM ('
        'SELECT get_byte(uuid_send(t.%I), 15) AS bucket, hashtextextended(t::text, 1) AS low, hashtextextended(t::text, 2) AS high FROM (%s) AS t'
        ') AS h GROUP BY h.bucket', key, projection.rows_of(name, n, tab));
END
$$;

-- Rows of some parts of a table that two generations don't both have, as JSON.
CREATE FUNCTION projection.differences(name text, live integer, n integer, tab text, keys text[], buckets integer[], most integer)
RETURNS TABLE (key text, live_row text, other_row text) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    key_of text := (SELECT string_agg(format('%L, x.%I', k, k), ', ' ORDER BY at) FROM unnest(keys) WITH ORDINALITY AS u (k, at));
    part text := format(
        'SELECT jsonb_build_object(%s) AS k, to_jsonb(x) AS r FROM (%%s) AS x WHERE get_byte(uuid_send(x.%I), 15) = ANY ($1)', key_of, keys[1]
    );
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT coalesce(a.k, b.k)::text, a.r::text, b.r::text FROM (%s) AS a FULL JOIN (%s) AS b ON a.k = b.k '
        'WHERE a.r IS DISTINCT FROM b.r ORDER BY 1 LIMIT $2',
        format(part, projection.rows_of(name, live, tab)), format(part, projection.rows_of(name, n, tab))
    ) USING buckets, most;
END
$$;
