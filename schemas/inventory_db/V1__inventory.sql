-- The inventory's own tables: an inline projection of its streams, written in the transaction of the events by inventory.append and
-- inventory.append_item_types. Only what commands need to know before they are decided, and what the timer needs; what players have is read
-- from the read model.
--
-- Numbers at rest: kind and rarity are those of idempo.event.v1.ItemKind and Rarity; state is 1 open, 2 released, 3 fulfilled, 4 expired.

CREATE SCHEMA inventory;

-- The item types. COLLATE "C": listed in the order of the bytes, whatever the locale.
CREATE TABLE inventory.item_types (
    item_type text COLLATE "C" PRIMARY KEY CHECK (item_type ~ '^[a-z0-9_]{1,64}$'),
    display_name text NOT NULL,
    kind smallint NOT NULL CHECK (kind IN (1, 2)),
    rarity smallint NOT NULL CHECK (rarity BETWEEN 1 AND 3),
    weapon_bonus smallint NOT NULL CHECK (weapon_bonus BETWEEN 0 AND 20),
    equippable boolean NOT NULL,
    CHECK (equippable OR weapon_bonus = 0),
    CHECK (kind = 1 OR NOT equippable)
);

-- Of which type a unique item is: what an item that is to be equipped is asked for. It never changes, whoever has the item.
CREATE TABLE inventory.unique_items (
    item_id uuid PRIMARY KEY,
    item_type text COLLATE "C" NOT NULL
);

CREATE TABLE inventory.reservations (
    reservation_id uuid PRIMARY KEY,
    player_id uuid NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz CHECK ((ended_at IS NULL) = (state = 1)),
    state smallint NOT NULL DEFAULT 1 CHECK (state BETWEEN 1 AND 4)
);

-- What the timer looks at: the open reservations, in the order in which they expire.
CREATE INDEX reservations_due ON inventory.reservations (expires_at, reservation_id) WHERE state = 1;

CREATE TRIGGER item_types_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON inventory.item_types
FOR EACH STATEMENT EXECUTE FUNCTION es.refuse_change();
CREATE TRIGGER unique_items_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON inventory.unique_items
FOR EACH STATEMENT EXECUTE FUNCTION es.refuse_change();
CREATE TRIGGER reservations_kept BEFORE DELETE OR TRUNCATE ON inventory.reservations
FOR EACH STATEMENT EXECUTE FUNCTION es.refuse_change();
-- A reservation changes once, from open to ended, and nothing else of it changes then.
CREATE TRIGGER reservations_ended_once BEFORE UPDATE ON inventory.reservations FOR EACH ROW
WHEN (
    OLD.state <> 1 OR NEW.state = 1
    OR (OLD.reservation_id, OLD.player_id, OLD.expires_at) IS DISTINCT FROM (NEW.reservation_id, NEW.player_id, NEW.expires_at)
)
EXECUTE FUNCTION es.refuse_change();

-- es.append, and in its transaction the rows that follow from the commands on inventories that were applied. The first 22 parameters are
-- those of es.append.
--
-- u_*: a minted unique item each. r_*: a reservation that was made each. x_*: a reservation that ended each.
-- *_command is the number of the command in the batch.
--
-- Nothing here waits for another batch: every row belongs to a stream that es.append has locked, or to a key that it has claimed.
CREATE FUNCTION inventory.append(
    c_scope bytea[], c_key uuid[], c_fingerprint bytea[], c_outcome smallint[], c_reply bytea[],
    s_id uuid[], s_category smallint[], s_key uuid[], s_expected bigint[], s_final bigint[],
    t_command integer[], t_stream uuid[], t_add integer[],
    e_command integer[], e_stream uuid[], e_version bigint[], e_id uuid[], e_type smallint[],
    e_topic smallint[], e_key uuid[], e_headers bytea[], e_envelope bytea[],
    u_command integer[], u_item uuid[], u_item_type text[],
    r_command integer[], r_reservation uuid[], r_player uuid[], r_expires_at timestamptz[],
    x_command integer[], x_reservation uuid[], x_state smallint[], x_ended_at timestamptz[]
) RETURNS es.exception_row[] LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    rows es.exception_row[];
    failed integer[] := '{}';
    expected integer;
    ended integer;
BEGIN
    rows := es.append(
        c_scope, c_key, c_fingerprint, c_outcome, c_reply, s_id, s_category, s_key, s_expected, s_final, t_command, t_stream, t_add,
        e_command, e_stream, e_version, e_id, e_type, e_topic, e_key, e_headers, e_envelope
    );
    IF cardinality(rows) > 0 THEN
        SELECT array_agg(DISTINCT x.command) INTO failed FROM unnest(rows) AS x;
        IF cardinality(failed) = cardinality(c_key) THEN
            RETURN rows;
        END IF;
    END IF;

    IF cardinality(u_command) > 0 THEN
        INSERT INTO inventory.unique_items (item_id, item_type)
        SELECT u.item, u.item_type FROM unnest(u_command, u_item, u_item_type) AS u (command, item, item_type)
        WHERE cardinality(failed) = 0 OR NOT u.command = ANY (failed);
    END IF;

    -- Made before ended: a batch may do both to one reservation.
    IF cardinality(r_command) > 0 THEN
        INSERT INTO inventory.reservations (reservation_id, player_id, expires_at)
        SELECT r.reservation, r.player, r.expires_at
        FROM unnest(r_command, r_reservation, r_player, r_expires_at) AS r (command, reservation, player, expires_at)
        WHERE cardinality(failed) = 0 OR NOT r.command = ANY (failed);
    END IF;

    IF cardinality(x_command) > 0 THEN
        SELECT count(*) INTO expected FROM unnest(x_command) AS x (command) WHERE NOT x.command = ANY (failed);
        UPDATE inventory.reservations AS t SET state = x.state, ended_at = x.ended_at
        FROM unnest(x_command, x_reservation, x_state, x_ended_at) AS x (command, reservation, state, ended_at)
        WHERE t.reservation_id = x.reservation AND t.state = 1 AND NOT x.command = ANY (failed);
        GET DIAGNOSTICS ended = ROW_COUNT;
        IF ended <> expected THEN
            RAISE EXCEPTION 'of % reservations ended by events, % are open in inventory.reservations', expected, ended
            USING ERRCODE = 'data_corrupted';
        END IF;
    END IF;
    RETURN rows;
END
$$;

-- es.append, and in its transaction the rows that follow from the commands on item types that were applied. The first 22 parameters are
-- those of es.append; i_*: a created item type each.
CREATE FUNCTION inventory.append_item_types(
    c_scope bytea[], c_key uuid[], c_fingerprint bytea[], c_outcome smallint[], c_reply bytea[],
    s_id uuid[], s_category smallint[], s_key uuid[], s_expected bigint[], s_final bigint[],
    t_command integer[], t_stream uuid[], t_add integer[],
    e_command integer[], e_stream uuid[], e_version bigint[], e_id uuid[], e_type smallint[],
    e_topic smallint[], e_key uuid[], e_headers bytea[], e_envelope bytea[],
    i_command integer[], i_item_type text[], i_display_name text[], i_kind smallint[], i_rarity smallint[],
    i_weapon_bonus smallint[], i_equippable boolean[]
) RETURNS es.exception_row[] LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    rows es.exception_row[];
    failed integer[] := '{}';
BEGIN
    rows := es.append(
        c_scope, c_key, c_fingerprint, c_outcome, c_reply, s_id, s_category, s_key, s_expected, s_final, t_command, t_stream, t_add,
        e_command, e_stream, e_version, e_id, e_type, e_topic, e_key, e_headers, e_envelope
    );
    IF cardinality(rows) > 0 THEN
        SELECT array_agg(DISTINCT x.command) INTO failed FROM unnest(rows) AS x;
        IF cardinality(failed) = cardinality(c_key) THEN
            RETURN rows;
        END IF;
    END IF;

    IF cardinality(i_command) > 0 THEN
        INSERT INTO inventory.item_types (item_type, display_name, kind, rarity, weapon_bonus, equippable)
        SELECT i.item_type, i.display_name, i.kind, i.rarity, i.weapon_bonus, i.equippable
        FROM unnest(i_command, i_item_type, i_display_name, i_kind, i_rarity, i_weapon_bonus, i_equippable)
            AS i (command, item_type, display_name, kind, rarity, weapon_bonus, equippable)
        WHERE cardinality(failed) = 0 OR NOT i.command = ANY (failed);
    END IF;
    RETURN rows;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA inventory FROM PUBLIC;
GRANT USAGE ON SCHEMA inventory TO idempo_inventory, idempo_reader;
GRANT EXECUTE ON FUNCTION inventory.append, inventory.append_item_types TO idempo_inventory;
GRANT SELECT ON ALL TABLES IN SCHEMA inventory TO idempo_inventory, idempo_reader;
