-- The inventory read model: where its consumer stands (schema projection), and the model itself, in a schema per generation.
--
-- A later generation is built beside the live one, by its own consumer, from its own checkpoints; what is in schema projection is told apart
-- by its generation. Readers and the projector name tables without a schema and find them by search_path `inventory_g<n>, projection`.

CREATE SCHEMA projection;

-- Which generation of a projection answers reads.
CREATE TABLE projection.projection (
    name text PRIMARY KEY,
    live_generation integer NOT NULL CHECK (live_generation > 0)
);

-- Every generation there is. code_hash names the logic that fills it; it is set by the first projector that starts on it, and a projector
-- with other logic refuses to: a changed fold needs a new generation.
CREATE TABLE projection.generation (
    projection text NOT NULL,
    generation integer NOT NULL CHECK (generation > 0),
    state text NOT NULL CHECK (state IN ('building', 'live', 'retired')),
    code_hash text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (projection, generation)
);

-- Where the consumer of each partition goes on. Written in the transaction of the rows that the offset stands for.
-- epoch is the fence: it grows with each assignment, and a batch commits only under the epoch it was read in.
-- newest_at: when the newest event below next_offset was decided.
CREATE TABLE projection.checkpoint (
    projection text NOT NULL,
    generation integer NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL CHECK (partition >= 0),
    next_offset bigint NOT NULL DEFAULT 0 CHECK (next_offset >= 0),
    epoch bigint NOT NULL DEFAULT 1 CHECK (epoch > 0),
    newest_at timestamptz,
    PRIMARY KEY (projection, generation, topic, partition),
    FOREIGN KEY (projection, generation) REFERENCES projection.generation (projection, generation)
) WITH (fillfactor = 20);

-- The last version of each stream that is in the model: what is at or below it is a duplicate, what is more than one above it is a gap.
CREATE TABLE projection.stream_version (
    generation integer NOT NULL,
    stream_id uuid NOT NULL,
    version bigint NOT NULL CHECK (version > 0),
    PRIMARY KEY (generation, stream_id)
) WITH (fillfactor = 70);

-- Makes the tables of generation `n`, empty, in the schema inventory_g<n>, and enters it as being built.
CREATE FUNCTION projection.create_generation(n integer) RETURNS void LANGUAGE plpgsql AS $create$
DECLARE
    model text := format('inventory_g%s', n);
BEGIN
    INSERT INTO projection.generation (projection, generation, state) VALUES ('inventory', n, 'building');
    EXECUTE format('CREATE SCHEMA %I', model);

    -- Unique items, as of the event with the greatest (hop, revision). An event that changes who has an item has revision 0 and the next hop,
    -- one that changes its reservation has the version of its stream, which is the owner's. So the row is the same in whichever order the
    -- streams of its owners arrive. state: 1 owned, 2 reserved, 3 destroyed.
    EXECUTE format($table$
        CREATE TABLE %I.items (
            item_id uuid PRIMARY KEY,
            item_type text COLLATE "C" NOT NULL,
            owner_id uuid NOT NULL,
            state smallint NOT NULL CHECK (state BETWEEN 1 AND 3),
            reservation_id uuid CHECK ((reservation_id IS NOT NULL) = (state = 2)),
            hop bigint NOT NULL CHECK (hop > 0),
            revision bigint NOT NULL CHECK (revision >= 0),
            updated_at timestamptz NOT NULL
        ) WITH (fillfactor = 80)$table$, model);
    EXECUTE format('CREATE INDEX items_owner ON %I.items (owner_id, item_id)', model);

    -- What a player has of each stackable type. Every row follows from one stream.
    EXECUTE format($table$
        CREATE TABLE %I.stacks (
            player_id uuid NOT NULL,
            item_type text COLLATE "C" NOT NULL,
            quantity bigint NOT NULL CHECK (quantity >= 0),
            reserved bigint NOT NULL CHECK (reserved BETWEEN 0 AND quantity),
            updated_at timestamptz NOT NULL,
            PRIMARY KEY (player_id, item_type)
        ) WITH (fillfactor = 70)$table$, model);

    -- What a player has ever equipped, and whether it is equipped now. Every row follows from one stream. It stands apart from items because an
    -- event that equips names no hop: as a column there it would depend on which hop the row has reached.
    EXECUTE format($table$
        CREATE TABLE %I.loadouts (
            player_id uuid NOT NULL,
            item_id uuid NOT NULL,
            equipped boolean NOT NULL,
            changed_at timestamptz NOT NULL,
            PRIMARY KEY (player_id, item_id)
        ) WITH (fillfactor = 70)$table$, model);
    EXECUTE format('CREATE UNIQUE INDEX loadouts_one_equipped ON %I.loadouts (player_id) WHERE equipped', model);

    -- The history of unique items. ordinal: 0 for the sender's leg of a transfer, which comes first in its hop; for what happens in the stream
    -- of the hop's owner, the version there.
    EXECUTE format($table$
        CREATE TABLE %I.item_events (
            item_id uuid NOT NULL,
            hop bigint NOT NULL CHECK (hop > 0),
            ordinal bigint NOT NULL CHECK (ordinal >= 0),
            event_id uuid NOT NULL,
            event_type smallint NOT NULL,
            player_id uuid NOT NULL,
            counterparty_id uuid,
            decided_at timestamptz NOT NULL,
            PRIMARY KEY (item_id, hop, ordinal)
        )$table$, model);

    EXECUTE format('GRANT USAGE ON SCHEMA %I TO idempo_inventory_projector', model);
    EXECUTE format('GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA %I TO idempo_inventory_projector', model);
    EXECUTE format('GRANT UPDATE ON %I.items, %I.stacks, %I.loadouts TO idempo_inventory_projector', model, model, model);
END
$create$;

SELECT projection.create_generation(1);
UPDATE projection.generation SET state = 'live' WHERE projection = 'inventory' AND generation = 1;
INSERT INTO projection.projection (name, live_generation) VALUES ('inventory', 1);

GRANT USAGE ON SCHEMA projection TO idempo_inventory_projector;
GRANT SELECT ON ALL TABLES IN SCHEMA projection TO idempo_inventory_projector;
GRANT INSERT, UPDATE ON projection.checkpoint, projection.stream_version TO idempo_inventory_projector;
GRANT UPDATE (code_hash) ON projection.generation TO idempo_inventory_projector;
