-- Records that a projection can't apply, and what is parked behind them. What is here is the same for every projection.
--
-- A dead letter stands at the head of its key: what comes later under the same key waits behind it in parked_record, in the order of offsets, until the
-- dead letter is replayed or discarded. Both are written by the process that has the partition, under its epoch; what people want of them is
-- written by wish_for_dead_letters, and heeded by that process.

-- group_id, topic, partition, record_offset: its identity, everywhere. key_hash: a key can be longer than what an index holds.
-- streams: those that can have events under the key, so that who waits for one of them is told; empty where the key is no player's or the like.
-- state: parked, waiting for people; replaying, discarding, with a wish; draining, done itself with followers still to be applied.
-- revision: rises with every change, so that what was decided on one is not done to another.
CREATE TABLE projection.dead_letter (
    projection text NOT NULL,
    generation integer NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    group_id text NOT NULL,
    key bytea,
    key_hash bytea GENERATED ALWAYS AS (sha256(key)) STORED,
    value bytea,
    headers bytea NOT NULL,
    written_at timestamptz,
    streams uuid[] NOT NULL,
    event_type integer,
    event_id uuid,
    stage text NOT NULL CHECK (stage IN ('decode', 'apply', 'persist')),
    code text NOT NULL,
    reason text NOT NULL,
    first_code text NOT NULL,
    first_reason text NOT NULL,
    attempts integer NOT NULL CHECK (attempts > 0),
    replay_count integer NOT NULL DEFAULT 0,
    first_failed_at timestamptz NOT NULL,
    last_failed_at timestamptz NOT NULL,
    state text NOT NULL DEFAULT 'parked' CHECK (state IN ('parked', 'replaying', 'discarding', 'draining')),
    discard boolean NOT NULL DEFAULT false,
    wished_by text,
    wish_reason text,
    wished_at timestamptz,
    applied_records bigint NOT NULL DEFAULT 0,
    revision bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (projection, generation, topic, partition, record_offset),
    FOREIGN KEY (projection, generation) REFERENCES projection.generation (projection, generation),
    CHECK ((state = 'parked') = (wished_at IS NULL))
);
-- A key has one head.
CREATE UNIQUE INDEX dead_letter_key ON projection.dead_letter (projection, generation, topic, partition, key_hash) WHERE key_hash IS NOT NULL;
CREATE INDEX dead_letter_wished ON projection.dead_letter (projection, generation, partition, wished_at, record_offset) WHERE wished_at IS NOT NULL;
CREATE INDEX dead_letter_streams ON projection.dead_letter USING gin (streams);

-- What waits behind the dead letter of its key.
CREATE TABLE projection.parked_record (
    projection text NOT NULL,
    generation integer NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    key_hash bytea NOT NULL,
    record_offset bigint NOT NULL,
    key bytea NOT NULL,
    value bytea,
    headers bytea NOT NULL,
    written_at timestamptz,
    PRIMARY KEY (projection, generation, topic, partition, key_hash, record_offset),
    FOREIGN KEY (projection, generation) REFERENCES projection.generation (projection, generation),
    CHECK (key_hash = sha256(key))
);

-- How dead letters ended, for those who ask again. applied_records: how many records were applied with it. blocked_by: the offset of the record of
-- the same key that is a dead letter since.
CREATE TABLE projection.dead_letter_end (
    projection text NOT NULL,
    generation integer NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    discarded boolean NOT NULL,
    applied_records bigint NOT NULL,
    blocked_by bigint,
    wished_by text NOT NULL,
    wish_reason text NOT NULL,
    ended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (projection, generation, topic, partition, record_offset),
    FOREIGN KEY (projection, generation) REFERENCES projection.generation (projection, generation)
);
CREATE INDEX dead_letter_end_time ON projection.dead_letter_end (ended_at);

-- Asks for dead letters of one generation and topic to be replayed, or discarded: partitions and offsets are arrays of one length, each dead letter is
-- there once. `names` are what the audit calls them. A row for each, in their order:
-- DONE, the wish stands, now or before; GONE, there is no such dead letter; OTHER_WISH_PENDING; REPLAYED_TOO_OFTEN, as often as replays_max or more.
CREATE FUNCTION projection.wish_for_dead_letters(
    name text, n integer, of_topic text, partitions integer[], offsets bigint[], names text[], discard_wished boolean, force boolean,
    replays_max integer, who text, why text
) RETURNS TABLE (place bigint, outcome text, detail text) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    -- Each is looked up by itself: the planner knows nothing of a table that was empty a moment ago. They are locked by a statement of its own, so
    -- that the next one's snapshot shows what whoever had them last made of them.
    PERFORM FROM (
        SELECT a.partition, a.record_offset FROM unnest(partitions, offsets) AS a (partition, record_offset) ORDER BY a.partition, a.record_offset
    ) AS a
    CROSS JOIN LATERAL (
        SELECT FROM projection.dead_letter AS l
        WHERE l.projection = name AND l.generation = n AND l.topic = of_topic AND l.partition = a.partition AND l.record_offset = a.record_offset
        LIMIT 1
        FOR UPDATE
    ) AS d;
    RETURN QUERY
    WITH asked AS (
        SELECT a.place, a.partition, a.record_offset, a.called
        FROM unnest(partitions, offsets, names) WITH ORDINALITY AS a (partition, record_offset, called, place)
    ), found AS (
        SELECT a.place, d.*
        FROM asked AS a
        CROSS JOIN LATERAL (
            SELECT l.ctid AS row_place, l.state, l.discard, l.replay_count, l.wished_by FROM projection.dead_letter AS l
            WHERE l.projection = name AND l.generation = n AND l.topic = of_topic AND l.partition = a.partition AND l.record_offset = a.record_offset
            LIMIT 1
        ) AS d
    ), judged AS (
        SELECT
            a.place, a.partition, a.record_offset, a.called,
            CASE
                WHEN f.place IS NULL THEN 'GONE'
                WHEN f.state <> 'parked' AND f.discard <> discard_wished THEN 'OTHER_WISH_PENDING'
                WHEN f.state <> 'parked' THEN 'DONE'
                WHEN NOT discard_wished AND NOT force AND f.replay_count >= replays_max THEN 'REPLAYED_TOO_OFTEN'
                ELSE 'DONE'
            END AS outcome,
            CASE
                WHEN f.place IS NULL THEN ''
                WHEN f.state <> 'parked' THEN format('%s, as %s asked for', f.state, f.wished_by)
                WHEN f.replay_count >= replays_max THEN format('replayed %s times in vain', f.replay_count)
                ELSE ''
            END AS detail,
            f.row_place, coalesce(f.state = 'parked', false) AS is_parked
        FROM asked AS a LEFT JOIN found AS f USING (place)
    ), wished AS (
        UPDATE projection.dead_letter AS d SET
            state = CASE WHEN discard_wished THEN 'discarding' ELSE 'replaying' END, discard = discard_wished, revision = d.revision + 1,
            wished_by = who, wish_reason = why, wished_at = clock_timestamp()
        FROM judged AS j
        WHERE j.outcome = 'DONE' AND j.is_parked AND d.ctid = j.row_place
    ), noted AS (
        INSERT INTO projection.audit (projection, caller, action, target, reason, outcome, detail)
        SELECT left(name, 64), left(who, 64), CASE WHEN discard_wished THEN 'discard' ELSE 'replay' END, left(j.called, 1000), left(why, 1000),
            j.outcome, left(j.detail, 1000)
        FROM judged AS j ORDER BY j.place
    )
    SELECT j.place, j.outcome, j.detail FROM judged AS j ORDER BY j.place;
END
$$;

-- Removes the tables of a generation that was given up, and all that is noted of it but the audit: as of V4, with its dead letters.
CREATE OR REPLACE FUNCTION projection.remove_generation(name text, n integer) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' AS $$
BEGIN
    PERFORM FROM projection.generation AS g
    WHERE g.projection = name AND g.generation = n AND g.state = 'dropping' AND g.drop_at <= clock_timestamp() FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM projection.checkpoint AS c WHERE c.projection = name AND c.generation = n;
    DELETE FROM projection.dead_letter AS d WHERE d.projection = name AND d.generation = n;
    DELETE FROM projection.parked_record AS p WHERE p.projection = name AND p.generation = n;
    DELETE FROM projection.dead_letter_end AS e WHERE e.projection = name AND e.generation = n;
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

GRANT SELECT, INSERT, UPDATE, DELETE ON projection.dead_letter, projection.parked_record, projection.dead_letter_end TO idempo_inventory_projector;
GRANT EXECUTE ON FUNCTION projection.wish_for_dead_letters TO idempo_inventory_projector;
