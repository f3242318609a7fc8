-- The tables of a generation of the inventory read model, in the schema inventory_g<n>: what V1 makes for generation 1, in two steps, so that a
-- rebuild fills them without indexes. `tests/tables.rs` of the projector holds them to be the same.

DROP FUNCTION projection.create_generation(integer);

-- The tables, without indexes. items_found is there as long as a rebuild needs it: what each part of the event store says of an item, of which the
-- owners' streams are in different parts.
-- stream_version stands in the generation's own schema, where it goes before the one that earlier generations share.
CREATE FUNCTION projection.create_tables(n integer) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $create$
DECLARE
    model text := projection.model_of('inventory', n);
BEGIN
    EXECUTE format('CREATE SCHEMA %I', model);
    EXECUTE format($table$
        CREATE TABLE %I.items (
            item_id uuid NOT NULL,
            item_type text COLLATE "C" NOT NULL,
            owner_id uuid NOT NULL,
            state smallint NOT NULL CHECK (state BETWEEN 1 AND 3),
            reservation_id uuid CHECK ((reservation_id IS NOT NULL) = (state = 2)),
            hop bigint NOT NULL CHECK (hop > 0),
            revision bigint NOT NULL CHECK (revision >= 0),
            updated_at timestamptz NOT NULL
        ) WITH (fillfactor = 80)$table$, model);
    EXECUTE format('CREATE TABLE %I.items_found (LIKE %I.items)', model, model);
    EXECUTE format($table$
        CREATE TABLE %I.stacks (
            player_id uuid NOT NULL,
            item_type text COLLATE "C" NOT NULL,
            quantity bigint NOT NULL CHECK (quantity >= 0),
            reserved bigint NOT NULL CHECK (reserved BETWEEN 0 AND quantity),
            updated_at timestamptz NOT NULL
        ) WITH (fillfactor = 70)$table$, model);
    EXECUTE format($table$
        CREATE TABLE %I.loadouts (
            player_id uuid NOT NULL,
            item_id uuid NOT NULL,
            equipped boolean NOT NULL,
            changed_at timestamptz NOT NULL
        ) WITH (fillfactor = 70)$table$, model);
    EXECUTE format($table$
        CREATE TABLE %I.item_events (
            item_id uuid NOT NULL,
            hop bigint NOT NULL CHECK (hop > 0),
            ordinal bigint NOT NULL CHECK (ordinal >= 0),
            event_id uuid NOT NULL,
            event_type smallint NOT NULL,
            player_id uuid NOT NULL,
            counterparty_id uuid,
            decided_at timestamptz NOT NULL
        )$table$, model);
    EXECUTE format($table$
        CREATE TABLE %I.stream_version (
            generation integer NOT NULL,
            stream_id uuid NOT NULL,
            version bigint NOT NULL CHECK (version > 0),
            event_id uuid
        ) WITH (fillfactor = 70)$table$, model);

    EXECUTE format('GRANT USAGE ON SCHEMA %I TO idempo_inventory_projector', model);
    EXECUTE format('GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA %I TO idempo_inventory_projector', model);
    EXECUTE format('GRANT UPDATE ON %1$I.items, %1$I.stacks, %1$I.loadouts, %1$I.stream_version TO idempo_inventory_projector', model);
END
$create$;

-- What follows from the filled tables: of what was found of an item, the row of the greatest (hop, revision, updated_at), and the indexes.
CREATE FUNCTION projection.index_tables(n integer) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $index$
DECLARE
    model text := projection.model_of('inventory', n);
BEGIN
    EXECUTE format(
        'INSERT INTO %1$I.items SELECT DISTINCT ON (f.item_id) f.* FROM %1$I.items_found AS f '
        'ORDER BY f.item_id, f.hop DESC, f.revision DESC, f.updated_at DESC', model);
    EXECUTE format('DROP TABLE %I.items_found', model);
    EXECUTE format('ALTER TABLE %I.items ADD PRIMARY KEY (item_id)', model);
    EXECUTE format('CREATE INDEX items_owner ON %I.items (owner_id, item_id)', model);
    EXECUTE format('ALTER TABLE %I.stacks ADD PRIMARY KEY (player_id, item_type)', model);
    EXECUTE format('ALTER TABLE %I.loadouts ADD PRIMARY KEY (player_id, item_id)', model);
    EXECUTE format('CREATE UNIQUE INDEX loadouts_one_equipped ON %I.loadouts (player_id) WHERE equipped', model);
    EXECUTE format('ALTER TABLE %I.item_events ADD PRIMARY KEY (item_id, hop, ordinal)', model);
    EXECUTE format('ALTER TABLE %I.stream_version ADD PRIMARY KEY (stream_id, generation)', model);
    EXECUTE format('ANALYZE %1$I.items, %1$I.stacks, %1$I.loadouts, %1$I.item_events, %1$I.stream_version', model);
END
$index$;

-- What a comparison compares: each table with its key, of which the first column is a uuid.
CREATE FUNCTION projection.compared_tables() RETURNS TABLE (tab text, keys text[]) LANGUAGE sql IMMUTABLE AS $$
    VALUES
        ('stream_version', '{stream_id}'::text[]),
        ('items', '{item_id}'),
        ('stacks', '{player_id,item_type}'),
        ('loadouts', '{player_id,item_id}'),
        ('item_events', '{item_id,hop,ordinal}')
$$;

GRANT SELECT ON
    projection.rebuild, projection.rebuilt_bucket, projection.verification, projection.hold, projection.turn, projection.audit
TO idempo_inventory_projector;
GRANT INSERT ON projection.rebuilt_bucket TO idempo_inventory_projector;
GRANT UPDATE (phase, phase_at, seam_offsets, part_firsts, part_lasts, buckets, events_total, failure_code, failure) ON projection.rebuild
TO idempo_inventory_projector;
GRANT UPDATE (state, compared_with, rows, buckets, buckets_different, ended_at, failure, differences) ON projection.verification
TO idempo_inventory_projector;
GRANT INSERT, UPDATE, DELETE ON projection.hold, projection.turn TO idempo_inventory_projector;
GRANT EXECUTE ON FUNCTION
    projection.record_audit, projection.start_rebuild, projection.give_up_generation, projection.remove_generation, projection.finish_tables,
    projection.settle_rebuild, projection.request_verification, projection.set_live, projection.set_paused, projection.model_of,
    projection.rows_of, projection.fingerprints, projection.differences, projection.compared_tables
TO idempo_inventory_projector;
GRANT USAGE ON SCHEMA projection TO idempo_reader;
GRANT EXECUTE ON FUNCTION projection.model_of, projection.rows_of, projection.stream_versions TO idempo_reader;
