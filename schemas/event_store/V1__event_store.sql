-- The event store and outbox of one domain database. ARCHITECTURE.md, "Append" and "Relay", says why it is as it is.

CREATE SCHEMA es;
CREATE SCHEMA outbox;

-- One row per stream: the row that serialises its writers. fillfactor leaves room for HOT updates.
CREATE TABLE es.streams (
    stream_id uuid PRIMARY KEY,
    category smallint NOT NULL,
    partition_key uuid NOT NULL,
    version bigint NOT NULL CHECK (version >= 0)
) WITH (fillfactor = 70);

-- Every event ever appended, as the bytes that go to Kafka. Never updated, never deleted.
CREATE TABLE es.events (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint NOT NULL,
    stream_id uuid NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    event_id uuid NOT NULL,
    event_type smallint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    envelope bytea NOT NULL CHECK (octet_length(envelope) BETWEEN 1 AND 65536),
    PRIMARY KEY (stream_id, version)
);

-- What was answered to each idempotency key. `key` is a UUIDv7, so partitions by key are partitions by time, whenever the row arrives.
-- outcome: 0 applied, 1 refused. fingerprint: a digest for each field of the request, to name the one that differs.
CREATE TABLE es.command_dedup (
    key uuid NOT NULL,
    scope bytea NOT NULL,
    fingerprint bytea NOT NULL,
    outcome smallint NOT NULL,
    reply bytea NOT NULL CHECK (octet_length(reply) <= 65536),
    PRIMARY KEY (key, scope)
) PARTITION BY RANGE (key);

-- The outbox: three tables of which one is written. A table is only ever inserted into and truncated as a whole, so it has no dead tuples.
-- xid stands before seq so that, where both come from defaults, the transaction has its xid before it draws the number.
CREATE SEQUENCE outbox.seq AS bigint CACHE 1;

CREATE TABLE outbox.r0 (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    seq bigint NOT NULL DEFAULT nextval('outbox.seq'),
    recorded_at timestamptz NOT NULL DEFAULT now(),
    topic smallint NOT NULL,
    key uuid NOT NULL,
    headers bytea,
    payload bytea NOT NULL CHECK (octet_length(payload) BETWEEN 1 AND 65536)
);
CREATE INDEX r0_seq ON outbox.r0 (seq);
CREATE TABLE outbox.r1 (LIKE outbox.r0 INCLUDING ALL);
CREATE TABLE outbox.r2 (LIKE outbox.r0 INCLUDING ALL);
ALTER TABLE outbox.r0 SET (autovacuum_enabled = false);
ALTER TABLE outbox.r1 SET (autovacuum_enabled = false);
ALTER TABLE outbox.r2 SET (autovacuum_enabled = false);

-- Which outbox table is written now.
CREATE TABLE outbox.rotation (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    current smallint NOT NULL CHECK (current BETWEEN 0 AND 2),
    rotated_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO outbox.rotation (current) VALUES (0);

-- Who relays this outbox. epoch is the fence: every write of the cursor names it.
CREATE TABLE outbox.lease (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    owner text,
    epoch bigint NOT NULL DEFAULT 0,
    expires_at timestamptz,
    backend_pid integer,
    backend_start timestamptz
);
INSERT INTO outbox.lease DEFAULT VALUES;

-- How far the outbox is in Kafka: everything that s1 shows is there, and so are, of what s2 shows beyond it, the rows up to acked_seq.
-- Rows that s1 does not show have a seq above a floor. For the transactions that s1 lists as in progress it is in xip_floors, in their order;
-- for a later xid it is the mark_floor of the last mark_xid that is not above it. s2 brings a mark of its own.
CREATE TABLE outbox.cursor (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    epoch bigint NOT NULL DEFAULT 0,
    s1 pg_snapshot NOT NULL DEFAULT '3:3:',
    xip_floors bigint[] NOT NULL DEFAULT '{}',
    mark_xids xid8[] NOT NULL DEFAULT '{3}',
    mark_floors bigint[] NOT NULL DEFAULT '{0}',
    s2 pg_snapshot,
    s2_mark_xid xid8,
    s2_mark_floor bigint,
    acked_seq bigint NOT NULL DEFAULT 0,
    updated_at timestamptz NOT NULL DEFAULT now(),
    CHECK (cardinality(mark_xids) >= 1 AND cardinality(mark_xids) = cardinality(mark_floors)),
    CHECK ((s2 IS NULL) = (s2_mark_xid IS NULL) AND (s2 IS NULL) = (s2_mark_floor IS NULL))
);
INSERT INTO outbox.cursor DEFAULT VALUES;

-- Whether outbox table `number` has a committed row that is not known to be in Kafka. Rows of transactions that still run are not seen.
CREATE FUNCTION outbox.has_unacked(number smallint) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    acked pg_snapshot;
    floor bigint;
    found boolean;
BEGIN
    SELECT c.s1, least(c.mark_floors[1], (SELECT min(f.floor) FROM unnest(c.xip_floors) AS f (floor))) INTO STRICT acked, floor
    FROM outbox.cursor AS c;
    EXECUTE format('SELECT EXISTS (SELECT FROM outbox.%I WHERE seq > $1 AND NOT pg_visible_in_snapshot(xid, $2))', 'r' || number)
    INTO STRICT found USING floor, acked;
    RETURN found;
END
$$;

-- Empties outbox table `number`, and tells whether it did: not while it is the one that is written, nor while a row in it is not acknowledged.
-- Whoever wrote into it holds a lock until the end of the transaction, so behind the exclusive lock every row is settled; what is looked at
-- before the lock only spares readers the wait. Fails with lock_not_available where a transaction that wrote into it still runs.
CREATE FUNCTION outbox.truncate_acked(number smallint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '20ms' SET enable_seqscan = off AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'outbox.truncate_acked must see what was committed while it waited for its lock';
    END IF;
    IF EXISTS (SELECT FROM outbox.rotation AS r WHERE r.current = number) OR outbox.has_unacked(number) THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE outbox.%I IN ACCESS EXCLUSIVE MODE', 'r' || number);
    IF outbox.has_unacked(number) THEN
        RETURN false;
    END IF;
    EXECUTE format('TRUNCATE TABLE outbox.%I', 'r' || number);
    RETURN true;
END
$$;

CREATE FUNCTION es.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON es.events
FOR EACH STATEMENT EXECUTE FUNCTION es.refuse_change();

-- A command of a batch that was not applied. status 1: its key is taken, and outcome, fingerprint and reply are what is stored under it.
-- status 2: a stream it was decided on has moved on; one row for each event since (envelope), or one row without (an earlier command of
-- the batch failed, or there were too many to send).
CREATE TYPE es.exception_row AS (
    command integer,
    status smallint,
    outcome smallint,
    fingerprint bytea,
    reply bytea,
    stream_id uuid,
    version bigint,
    envelope bytea
);

-- The commands of a batch that can't be applied, given those that are known to have failed: also each later command that was decided on top
-- of one of them. A touch is one command on one stream, in the order of the commands.
CREATE FUNCTION es.failed_with_followers(failed integer[], t_command integer[], t_stream uuid[])
RETURNS integer[] LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    broken uuid[] := '{}';
    i integer := 1;
    j integer;
    n integer := cardinality(t_command);
    is_failed boolean;
BEGIN
    WHILE i <= n LOOP
        j := i;
        is_failed := t_command[i] = ANY (failed);
        WHILE j <= n AND t_command[j] = t_command[i] LOOP
            is_failed := is_failed OR t_stream[j] = ANY (broken);
            j := j + 1;
        END LOOP;
        IF is_failed THEN
            IF NOT t_command[i] = ANY (failed) THEN
                failed := failed || t_command[i];
            END IF;
            broken := broken || t_stream[i:j - 1];
        END IF;
        i := j;
    END LOOP;
    RETURN failed;
END
$$;

-- Which of the batch's commands that have not failed could not claim their key, because it was taken before.
CREATE FUNCTION es.taken_keys(c_key uuid[], c_scope bytea[], failed integer[])
RETURNS integer[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(c.command::integer), '{}')
    FROM unnest(c_key, c_scope) WITH ORDINALITY AS c (key, scope, command)
    WHERE NOT c.command = ANY (failed) AND NOT EXISTS (
        SELECT FROM es.command_dedup AS d
        WHERE d.key = c.key AND d.scope = c.scope AND d.xmin = pg_current_xact_id_if_assigned()::xid
    )
$$;

-- Takes back what the failed commands of a batch have claimed and advanced, and says why each of them failed.
CREATE FUNCTION es.undo_failed(
    failed integer[], taken integer[], c_key uuid[], c_scope bytea[],
    s_id uuid[], s_expected bigint[], locked uuid[], stale uuid[], t_command integer[], t_stream uuid[], t_add integer[]
) RETURNS es.exception_row[] LANGUAGE plpgsql AS $$
DECLARE
    delta_events_max constant integer := 256;
    rows es.exception_row[];
BEGIN
    DELETE FROM es.command_dedup AS d
    USING unnest(c_key, c_scope) WITH ORDINALITY AS c (key, scope, command)
    WHERE d.key = c.key AND d.scope = c.scope AND c.command = ANY (failed) AND NOT c.command = ANY (taken)
        AND d.xmin = pg_current_xact_id_if_assigned()::xid;

    -- The streams that this batch has locked go to where the commands that did not fail leave them. Those that it has only looked at, for a
    -- refusal, may have been moved on by others since.
    WITH reached AS (
        SELECT s.id, s.expected + coalesce(sum(t.add) FILTER (WHERE NOT t.command = ANY (failed)), 0) AS version
        FROM unnest(s_id, s_expected) AS s (id, expected) JOIN unnest(t_command, t_stream, t_add) AS t (command, stream, add) ON t.stream = s.id
        WHERE s.id = ANY (locked)
        GROUP BY s.id, s.expected
    ), emptied AS (
        DELETE FROM es.streams AS x USING reached AS r WHERE x.stream_id = r.id AND r.version = 0
    )
    UPDATE es.streams AS x SET version = r.version FROM reached AS r WHERE x.stream_id = r.id AND r.version > 0 AND x.version <> r.version;

    SELECT array_agg(x) INTO rows FROM (
        SELECT ROW(c.command::integer, 1::smallint, d.outcome, d.fingerprint, d.reply, NULL, NULL, NULL)::es.exception_row AS x
        FROM unnest(c_key, c_scope) WITH ORDINALITY AS c (key, scope, command)
        JOIN es.command_dedup AS d ON d.key = c.key AND d.scope = c.scope
        WHERE c.command = ANY (taken)
        UNION ALL
        SELECT ROW(f.command, 2::smallint, NULL, NULL, NULL, NULL, NULL, NULL)::es.exception_row
        FROM unnest(failed) AS f (command) WHERE NOT f.command = ANY (taken)
        UNION ALL
        (SELECT ROW(t.command, 2::smallint, NULL, NULL, NULL, e.stream_id, e.version, e.envelope)::es.exception_row
        FROM unnest(s_id, s_expected) AS s (id, expected)
        JOIN LATERAL (SELECT min(u.command) AS command FROM unnest(t_command, t_stream) AS u (command, stream) WHERE u.stream = s.id) AS t ON true
        JOIN es.events AS e ON e.stream_id = s.id AND e.version > s.expected
        WHERE s.id = ANY (stale)
        ORDER BY e.stream_id, e.version
        LIMIT delta_events_max)
    ) AS found;
    RETURN rows;
END
$$;

-- Appends a batch of commands in one transaction, each wholly or not at all; returns rows only for those that were not applied.
--
-- c_*: a command each, numbered from 1.
-- s_*: a stream each, sorted by id: the version the first command of the batch expects, and the one after the last.
-- t_*: a touch each (one command on one stream), in the order of the commands, with the number of events the command adds to it.
-- e_*: an event each, in the order of the commands.
--
-- Why it can't deadlock with another batch: rows are locked in three steps that every batch takes in the same order (new streams by id,
-- streams by id, keys in order), and a batch in a later step never waits for one in an earlier step.
-- Why order holds for the relay: numbers are drawn in the last step, when the rows of all streams are locked.
-- Why a refusal needs no lock: it adds nothing, and it was true when its streams' versions were read here. A command that adds events to some
-- of its streams and only looks at others holds the first alone: the others may have moved on when it commits.
-- A batch waits 1 s for a lock at most. Then its commands come one by one, and only the one that needs the lock waits longer.
CREATE FUNCTION es.append(
    c_scope bytea[], c_key uuid[], c_fingerprint bytea[], c_outcome smallint[], c_reply bytea[],
    s_id uuid[], s_category smallint[], s_key uuid[], s_expected bigint[], s_final bigint[],
    t_command integer[], t_stream uuid[], t_add integer[],
    e_command integer[], e_stream uuid[], e_version bigint[], e_id uuid[], e_type smallint[],
    e_topic smallint[], e_key uuid[], e_headers bytea[], e_envelope bytea[]
) RETURNS es.exception_row[] LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off
AS $$
DECLARE
    begun uuid[] := '{}';
    moved uuid[];
    stale uuid[] := '{}';
    failed integer[] := '{}';
    taken integer[];
    rows es.exception_row[] := '{}';
    claimed integer;
    target smallint;
BEGIN
    IF cardinality(c_key) > 1 AND current_setting('lock_timeout')::interval NOT BETWEEN '1 millisecond' AND '1 second' THEN
        PERFORM set_config('lock_timeout', '1s', true);
    END IF;

    -- Streams that begin here. Whoever races for the same one waits, and then finds it begun.
    IF 0 = ANY (s_expected) THEN
        WITH b AS (
            INSERT INTO es.streams (stream_id, category, partition_key, version)
            SELECT s.id, s.category, s.key, s.final
            FROM unnest(s_id, s_category, s_key, s_expected, s_final) AS s (id, category, key, expected, final)
            WHERE s.expected = 0 AND s.final > 0
            ON CONFLICT DO NOTHING
            RETURNING stream_id
        )
        SELECT coalesce(array_agg(b.stream_id), '{}') INTO begun FROM b;
    END IF;

    -- Version check and advance in one. Only a nested loop from s_id into the index is left to the planner, whatever it knows of the tables, so
    -- rows are locked in the order of s_id.
    WITH m AS (
        UPDATE es.streams AS x SET version = s.final
        FROM unnest(s_id, s_expected, s_final) AS s (id, expected, final)
        WHERE x.stream_id = s.id AND x.version = s.expected AND s.final > s.expected AND s.expected > 0
        RETURNING x.stream_id
    )
    SELECT coalesce(array_agg(m.stream_id), '{}') INTO moved FROM m;

    IF cardinality(begun) + cardinality(moved) < cardinality(s_id) THEN
        SELECT coalesce(array_agg(s.id), '{}') INTO stale
        FROM unnest(s_id, s_expected, s_final) AS s (id, expected, final)
        LEFT JOIN es.streams AS x ON x.stream_id = s.id
        WHERE NOT s.id = ANY (begun || moved) AND (s.final > s.expected OR coalesce(x.version, 0) <> s.expected);
        IF cardinality(stale) > 0 THEN
            SELECT coalesce(array_agg(DISTINCT t.command), '{}') INTO failed
            FROM unnest(t_command, t_stream) AS t (command, stream) WHERE t.stream = ANY (stale);
            failed := es.failed_with_followers(failed, t_command, t_stream);
        END IF;
    END IF;

    -- The claim of the idempotency keys, in key order. A racing duplicate waits here for the outcome of the one before it.
    INSERT INTO es.command_dedup (key, scope, fingerprint, outcome, reply)
    SELECT c.key, c.scope, c.fingerprint, c.outcome, c.reply
    FROM unnest(c_key, c_scope, c_fingerprint, c_outcome, c_reply) WITH ORDINALITY
        AS c (key, scope, fingerprint, outcome, reply, command)
    WHERE cardinality(failed) = 0 OR NOT c.command = ANY (failed)
    ORDER BY c.key, c.scope
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS claimed = ROW_COUNT;

    IF claimed < cardinality(c_key) THEN
        taken := es.taken_keys(c_key, c_scope, failed);
        failed := es.failed_with_followers(failed || taken, t_command, t_stream);
        rows := es.undo_failed(failed, taken, c_key, c_scope, s_id, s_expected, begun || moved, stale, t_command, t_stream, t_add);
        IF cardinality(failed) = cardinality(c_key) THEN
            RETURN rows;
        END IF;
    END IF;
    IF cardinality(e_id) = 0 THEN
        RETURN rows;
    END IF;

    -- Static statements, one for each table, so that their plans are kept.
    SELECT r.current INTO target FROM outbox.rotation AS r;
    IF target = 0 THEN
        WITH e AS MATERIALIZED (
            SELECT nextval('outbox.seq') AS seq, u.*
            FROM unnest(e_command, e_stream, e_version, e_id, e_type, e_topic, e_key, e_headers, e_envelope)
                AS u (command, stream, version, id, type, topic, key, headers, envelope)
            WHERE cardinality(failed) = 0 OR NOT u.command = ANY (failed)
        ), stored AS (
            INSERT INTO es.events (seq, stream_id, version, event_id, event_type, envelope)
            SELECT e.seq, e.stream, e.version, e.id, e.type, e.envelope FROM e
        )
        INSERT INTO outbox.r0 (seq, topic, key, headers, payload) SELECT e.seq, e.topic, e.key, e.headers, e.envelope FROM e;
    ELSIF target = 1 THEN
        WITH e AS MATERIALIZED (
            SELECT nextval('outbox.seq') AS seq, u.*
            FROM unnest(e_command, e_stream, e_version, e_id, e_type, e_topic, e_key, e_headers, e_envelope)
                AS u (command, stream, version, id, type, topic, key, headers, envelope)
            WHERE cardinality(failed) = 0 OR NOT u.command = ANY (failed)
        ), stored AS (
            INSERT INTO es.events (seq, stream_id, version, event_id, event_type, envelope)
            SELECT e.seq, e.stream, e.version, e.id, e.type, e.envelope FROM e
        )
        INSERT INTO outbox.r1 (seq, topic, key, headers, payload) SELECT e.seq, e.topic, e.key, e.headers, e.envelope FROM e;
    ELSE
        WITH e AS MATERIALIZED (
            SELECT nextval('outbox.seq') AS seq, u.*
            FROM unnest(e_command, e_stream, e_version, e_id, e_type, e_topic, e_key, e_headers, e_envelope)
                AS u (command, stream, version, id, type, topic, key, headers, envelope)
            WHERE cardinality(failed) = 0 OR NOT u.command = ANY (failed)
        ), stored AS (
            INSERT INTO es.events (seq, stream_id, version, event_id, event_type, envelope)
            SELECT e.seq, e.stream, e.version, e.id, e.type, e.envelope FROM e
        )
        INSERT INTO outbox.r2 (seq, topic, key, headers, payload) SELECT e.seq, e.topic, e.key, e.headers, e.envelope FROM e;
    END IF;
    RETURN rows;
END
$$;

-- Makes sure that idempotency keys made in the week of `at` have a partition. Partitions are weeks, from Monday, UTC.
CREATE FUNCTION es.ensure_dedup_partition(at timestamptz) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    week timestamp := date_trunc('week', at AT TIME ZONE 'UTC');
    name text := 'command_dedup_' || to_char(week, 'YYYYMMDD');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('es.command_dedup'));
    IF to_regclass('es.' || name) IS NULL THEN
        -- Attached rather than created in place: attaching does not lock out writers of the other partitions.
        EXECUTE format('CREATE TABLE es.%I (LIKE es.command_dedup INCLUDING ALL)', name);
        EXECUTE format('ALTER TABLE es.command_dedup ATTACH PARTITION es.%I FOR VALUES FROM (%L) TO (%L)',
            name, es.first_key_of(week AT TIME ZONE 'UTC'), es.first_key_of((week + interval '7 days') AT TIME ZONE 'UTC'));
    END IF;
END
$$;

-- The smallest UUIDv7-shaped value of a time.
CREATE FUNCTION es.first_key_of(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Forgets the idempotency keys of whole weeks that ended before `before`; returns how many weeks. Appends wait behind the lock that it waits
-- for, so it soon fails with lock_not_available where a transaction that claimed a key still runs.
CREATE FUNCTION es.drop_dedup_partitions(before timestamptz) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms'
AS $$
DECLARE
    part record;
    dropped integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('es.command_dedup'));
    FOR part IN
        SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'es.command_dedup'::regclass
            AND to_timestamp(right(c.relname, 8), 'YYYYMMDD')::timestamp + interval '7 days' <= before AT TIME ZONE 'UTC'
    LOOP
        EXECUTE format('DROP TABLE es.%I', part.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA es FROM PUBLIC;
GRANT USAGE ON SCHEMA es, outbox TO idempo_command, idempo_relay_group, idempo_reader;
GRANT EXECUTE ON FUNCTION es.append, es.ensure_dedup_partition, es.drop_dedup_partitions TO idempo_command;
GRANT SELECT ON es.streams, es.events, es.command_dedup TO idempo_command;
GRANT SELECT ON es.streams, es.events, es.command_dedup TO idempo_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA outbox TO idempo_reader, idempo_relay_group;
GRANT SELECT ON outbox.seq TO idempo_relay_group, idempo_reader;
GRANT UPDATE ON outbox.lease, outbox.cursor, outbox.rotation TO idempo_relay_group;
GRANT EXECUTE ON FUNCTION outbox.truncate_acked TO idempo_relay_group;
