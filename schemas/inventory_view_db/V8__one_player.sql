-- The rows of one player can be made anew in a generation that is in use, from the events of the event store (`crates/projection/src/player`). As for a
-- comparison with the fold (V7) they are made in temporary tables of a session, by begin_fold; here is what puts them in the place of what is there.

-- Things that pass between players, of which the rows of a generation say that a player has or had them. The history of things has no index by player:
-- this reads all of it.
CREATE FUNCTION projection.things_of_player(n integer, player uuid) RETURNS TABLE (thing uuid) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT i.item_id FROM %1$I.items AS i WHERE i.owner_id = $1 UNION SELECT e.item_id FROM %1$I.item_events AS e WHERE e.player_id = $1',
        projection.model_of('inventory', n)
    ) USING player;
END
$$;

-- Players of whom the rows of a generation say that they have or had one of these things.
CREATE FUNCTION projection.players_of_things(n integer, things uuid[]) RETURNS TABLE (player uuid) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT i.owner_id FROM %1$I.items AS i WHERE i.item_id = ANY ($1) '
        'UNION SELECT e.player_id FROM %1$I.item_events AS e WHERE e.item_id = ANY ($1) '
        'UNION SELECT e.counterparty_id FROM %1$I.item_events AS e WHERE e.item_id = ANY ($1) AND e.counterparty_id IS NOT NULL',
        projection.model_of('inventory', n)
    ) USING things;
END
$$;

-- The versions of these streams in a generation; nothing for one that it does not have.
CREATE FUNCTION projection.versions_of(name text, n integer, streams uuid[]) RETURNS TABLE (stream_id uuid, version bigint) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE
        format('SELECT v.stream_id, v.version FROM (%s) AS v WHERE v.stream_id = ANY ($1)', projection.rows_of(name, n, 'stream_version'))
        USING streams;
END
$$;

-- Keeps every consumer of a generation from committing until the end of the transaction, and answers which logic fills it and in which state it is. A
-- batch moves its checkpoint before it writes anything, so it waits for the checkpoints; a partition that has none yet needs the generation's row for
-- its own. The projection's row comes first, as for whoever switches. The checkpoints come before the generation: who parks has the former and asks for the
-- latter. One that was added in between is locked in the end.
CREATE FUNCTION projection.fence_generation(name text, n integer, OUT logic text, OUT state text) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM projection.projection AS p WHERE p.name = fence_generation.name FOR SHARE;
    PERFORM FROM projection.checkpoint AS c WHERE c.projection = fence_generation.name AND c.generation = n ORDER BY c.partition FOR UPDATE;
    SELECT g.code_hash, g.state INTO logic, state
    FROM projection.generation AS g WHERE g.projection = fence_generation.name AND g.generation = n FOR UPDATE;
    PERFORM FROM projection.checkpoint AS c WHERE c.projection = fence_generation.name AND c.generation = n ORDER BY c.partition FOR UPDATE;
END
$$;

-- The tables with rows of players, each with its key, and with which of its rows, x, belong to player $1 or to things $2.
CREATE FUNCTION projection.player_tables() RETURNS TABLE (tab text, keys text[], belongs text) LANGUAGE sql IMMUTABLE AS $$
    VALUES
        ('items', '{item_id}'::text[], 'x.item_id = ANY ($2)'),
        ('stacks', '{player_id,item_type}', 'x.player_id = $1'),
        ('loadouts', '{player_id,item_id}', 'x.player_id = $1'),
        ('item_events', '{item_id,hop,ordinal}', 'x.item_id = ANY ($2)')
$$;

-- Rows of a player and of things that are not as the session's fold has them, `most` of each table: as they are, and as they are to be.
CREATE FUNCTION projection.player_differences(n integer, player uuid, things uuid[], most integer)
RETURNS TABLE (tab text, key text, found text, fold text) LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    t record;
    side text;
BEGIN
    FOR t IN
        SELECT p.tab, p.belongs, string_agg(format('%L, x.%I', k, k), ', ' ORDER BY at) AS key_of
        FROM projection.player_tables() AS p CROSS JOIN LATERAL unnest(p.keys) WITH ORDINALITY AS u (k, at) GROUP BY p.tab, p.belongs ORDER BY p.tab
    LOOP
        side := format('SELECT jsonb_build_object(%s) AS k, to_jsonb(x) AS r FROM %%s AS x WHERE %s', t.key_of, t.belongs);
        RETURN QUERY EXECUTE format(
            'SELECT %L, coalesce(a.k, b.k)::text, a.r::text, b.r::text FROM (%s) AS a FULL JOIN (%s) AS b ON a.k = b.k '
            'WHERE a.r IS DISTINCT FROM b.r ORDER BY 2 LIMIT $3',
            t.tab, format(side, format('%I.%I', projection.model_of('inventory', n), t.tab)), format(side, format('pg_temp.%I', t.tab))
        ) USING player, things, most;
    END LOOP;
END
$$;

-- Puts the rows of a player and of things that the session's fold has in the place of those that are there. Rows that are as they are to be are not
-- touched. A row for each table: how many there are then; how many were missing, other than they should be, or too many.
CREATE FUNCTION projection.replace_player(n integer, player uuid, things uuid[])
RETURNS TABLE (tab text, row_count bigint, missing bigint, changed bigint, superfluous bigint) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    t record;
    model text;
    same text;
BEGIN
    FOR t IN
        SELECT p.tab, p.belongs, string_agg(format('x.%1$I = f.%1$I', k), ' AND ' ORDER BY at) AS same_key
        FROM projection.player_tables() AS p CROSS JOIN LATERAL unnest(p.keys) WITH ORDINALITY AS u (k, at) GROUP BY p.tab, p.belongs ORDER BY p.tab
    LOOP
        tab := t.tab;
        model := format('%I.%I', projection.model_of('inventory', n), t.tab);
        same := format('SELECT FROM pg_temp.%I AS f WHERE %s', t.tab, t.same_key);
        EXECUTE format('DELETE FROM %s AS x WHERE %s AND NOT EXISTS (%s)', model, t.belongs, same) USING player, things;
        GET DIAGNOSTICS superfluous = ROW_COUNT;
        EXECUTE format('DELETE FROM %s AS x WHERE %s AND EXISTS (%s AND ROW(x.*) IS DISTINCT FROM ROW(f.*))', model, t.belongs, same)
        USING player, things;
        GET DIAGNOSTICS changed = ROW_COUNT;
        EXECUTE format(
            'INSERT INTO %s SELECT x.* FROM pg_temp.%I AS x WHERE %s AND NOT EXISTS (SELECT FROM %s AS f WHERE %s)',
            model, t.tab, t.belongs, model, t.same_key
        ) USING player, things;
        GET DIAGNOSTICS missing = ROW_COUNT;
        missing := missing - changed;
        EXECUTE format('SELECT count(*) FROM %s AS x WHERE %s', model, t.belongs) INTO row_count USING player, things;
        RETURN NEXT;
    END LOOP;
END
$$;

GRANT EXECUTE ON FUNCTION
    projection.things_of_player, projection.players_of_things, projection.versions_of, projection.fence_generation, projection.player_tables,
    projection.player_differences, projection.replace_player
TO idempo_inventory_projector;
