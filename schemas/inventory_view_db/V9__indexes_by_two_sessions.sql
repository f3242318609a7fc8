-- The tables of a filled generation are made ready by two sessions at once: a step of each is a transaction of its own, and index_tables does what is
-- left. Each step locks its tables before it looks whether it was done, so two processes that do the same wait for each other, and the second finds
-- it done. A session that has one step waits for none of the other's tables.

-- Of what was found of an item, the row of the greatest (hop, revision, updated_at); and the index by owner.
CREATE FUNCTION projection.index_items(n integer) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model text := projection.model_of('inventory', n);
BEGIN
    EXECUTE format('LOCK TABLE %I.items IN ACCESS EXCLUSIVE MODE', model);
    IF to_regclass(format('%I.items_found', model)) IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format(
        'INSERT INTO %1$I.items SELECT DISTINCT ON (f.item_id) f.* FROM %1$I.items_found AS f '
        'ORDER BY f.item_id, f.hop DESC, f.revision DESC, f.updated_at DESC', model);
    EXECUTE format('DROP TABLE %I.items_found', model);
    EXECUTE format('ALTER TABLE %I.items ADD PRIMARY KEY (item_id)', model);
    EXECUTE format('CREATE INDEX items_owner ON %I.items (owner_id, item_id)', model);
    EXECUTE format('ANALYZE %I.items', model);
END
$$;

-- Everything else.
CREATE FUNCTION projection.index_others(n integer) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    model text := projection.model_of('inventory', n);
BEGIN
    EXECUTE format('LOCK TABLE %1$I.item_events, %1$I.stacks, %1$I.loadouts, %1$I.stream_version IN ACCESS EXCLUSIVE MODE', model);
    IF EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = to_regclass(format('%I.item_events', model)) AND i.indisprimary) THEN
        RETURN;
    END IF;
    EXECUTE format('ALTER TABLE %I.item_events ADD PRIMARY KEY (item_id, hop, ordinal)', model);
    EXECUTE format('ALTER TABLE %I.stacks ADD PRIMARY KEY (player_id, item_type)', model);
    EXECUTE format('ALTER TABLE %I.loadouts ADD PRIMARY KEY (player_id, item_id)', model);
    EXECUTE format('CREATE UNIQUE INDEX loadouts_one_equipped ON %I.loadouts (player_id) WHERE equipped', model);
    EXECUTE format('ALTER TABLE %I.stream_version ADD PRIMARY KEY (stream_id, generation)', model);
    EXECUTE format('ANALYZE %1$I.item_events, %1$I.stacks, %1$I.loadouts, %1$I.stream_version', model);
END
$$;

-- What follows from the filled tables: as of V5, in steps that may have been done.
CREATE OR REPLACE FUNCTION projection.index_tables(n integer) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM projection.index_items(n);
    PERFORM projection.index_others(n);
END
$$;

-- Does one step, 0 or 1, of a rebuild whose parts are all in. Answers false where there is no such rebuild. It locks no row: one who cancels, and whoever
-- else has something to do with the projection, does not wait for indexes. Phases go on, and finish_tables looks again before it notes anything.
CREATE FUNCTION projection.index_beforehand(name text, n integer, step integer) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET maintenance_work_mem = '64MB' AS $$
BEGIN
    PERFORM FROM projection.rebuild AS r JOIN projection.generation AS g USING (projection, generation)
    WHERE r.projection = name AND r.generation = n AND r.phase = 'indexing' AND g.state = 'building';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    IF step = 0 THEN
        PERFORM projection.index_items(n);
    ELSE
        PERFORM projection.index_others(n);
    END IF;
    RETURN true;
END
$$;

GRANT EXECUTE ON FUNCTION projection.index_beforehand TO idempo_inventory_projector;
