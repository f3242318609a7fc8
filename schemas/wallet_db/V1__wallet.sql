-- The wallet's own tables: an inline projection of its streams, written in the transaction of the events by wallet.append.
--
-- Numbers at rest are those of the protobuf enums: asset (idempo.event.v1.Asset), account (SystemAccount), kind (idempo.wallet.v1.EntryKind),
-- state (HoldState).
--
-- A transaction has two sides of equal amount, and so sums to zero. A side that is a wallet is also an entry, which carries the balance after
-- it: the current balance is the last entry, and there is no balance row to update. A side that is a system account has no balance here,
-- since all minting would queue for it; wallet.postings shows both kinds of sides.

CREATE SCHEMA wallet;

CREATE TABLE wallet.wallets (
    player_id uuid PRIMARY KEY,
    opened_at timestamptz NOT NULL
);

-- One row for each event of a wallet's stream but its first; version is the event's. The index serves the current balance, the balance as
-- it was, and pages of entries.
CREATE TABLE wallet.entries (
    player_id uuid NOT NULL,
    version bigint NOT NULL CHECK (version > 1),
    created_at timestamptz NOT NULL,
    posted_delta bigint NOT NULL,
    held_delta bigint NOT NULL,
    posted_after bigint NOT NULL CHECK (posted_after >= 0),
    held_after bigint NOT NULL CHECK (held_after >= 0 AND held_after <= posted_after),
    event_id uuid NOT NULL,
    transaction_id uuid CHECK ((transaction_id IS NOT NULL) = (posted_delta <> 0)),
    hold_id uuid,
    counterparty_player uuid,
    counterparty_account smallint,
    asset smallint NOT NULL CHECK (asset IN (1, 2)),
    kind smallint NOT NULL CHECK (kind BETWEEN 1 AND 9),
    reason text NOT NULL,
    PRIMARY KEY (player_id, asset, version) INCLUDE (created_at)
);

CREATE TABLE wallet.transactions (
    transaction_id uuid PRIMARY KEY,
    created_at timestamptz NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    from_player uuid,
    to_player uuid,
    reverses uuid,
    from_account smallint CHECK (from_account BETWEEN 1 AND 3),
    to_account smallint CHECK (to_account BETWEEN 1 AND 3),
    asset smallint NOT NULL CHECK (asset IN (1, 2)),
    CHECK (num_nonnulls(from_player, from_account) = 1 AND num_nonnulls(to_player, to_account) = 1)
);

-- Finds what reversed a transaction. Unique as the last line behind the domain's rule: a second reversal can't be committed.
CREATE UNIQUE INDEX transactions_reverses ON wallet.transactions (reverses) WHERE reverses IS NOT NULL;

CREATE TABLE wallet.holds (
    hold_id uuid PRIMARY KEY,
    player_id uuid NOT NULL,
    placed_version bigint NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    captured_amount bigint NOT NULL DEFAULT 0 CHECK (captured_amount BETWEEN 0 AND amount),
    placed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    resolved_at timestamptz CHECK ((resolved_at IS NULL) = (state = 1)),
    asset smallint NOT NULL CHECK (asset IN (1, 2)),
    state smallint NOT NULL DEFAULT 1 CHECK (state BETWEEN 1 AND 4),
    reason text NOT NULL,
    CHECK ((captured_amount > 0) = (state = 2))
);

-- What the timer looks at: the pending holds, in the order in which they expire.
CREATE INDEX holds_due ON wallet.holds (expires_at, hold_id) WHERE state = 1;

-- Every side of every transaction. Per transaction and asset, posted_delta sums to zero.
CREATE VIEW wallet.postings AS
SELECT e.transaction_id, e.asset, e.player_id, NULL::smallint AS account, e.posted_delta, e.posted_after
FROM wallet.entries AS e WHERE e.transaction_id IS NOT NULL
UNION ALL
SELECT t.transaction_id, t.asset, NULL, t.from_account, -t.amount, NULL FROM wallet.transactions AS t WHERE t.from_account IS NOT NULL
UNION ALL
SELECT t.transaction_id, t.asset, NULL, t.to_account, t.amount, NULL FROM wallet.transactions AS t WHERE t.to_account IS NOT NULL;

CREATE TRIGGER wallets_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet.wallets
FOR EACH STATEMENT EXECUTE FUNCTION es.refuse_change();
CREATE TRIGGER entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet.entries
FOR EACH STATEMENT EXECUTE FUNCTION es.refuse_change();
CREATE TRIGGER transactions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON wallet.transactions
FOR EACH STATEMENT EXECUTE FUNCTION es.refuse_change();
CREATE TRIGGER holds_kept BEFORE DELETE OR TRUNCATE ON wallet.holds
FOR EACH STATEMENT EXECUTE FUNCTION es.refuse_change();
-- A hold changes once, from pending to resolved, and nothing else of it changes then.
CREATE TRIGGER holds_resolved_once BEFORE UPDATE ON wallet.holds FOR EACH ROW
WHEN (
    OLD.state <> 1 OR NEW.state = 1
    OR (OLD.hold_id, OLD.player_id, OLD.placed_version, OLD.amount, OLD.placed_at, OLD.expires_at, OLD.asset, OLD.reason)
        IS DISTINCT FROM (NEW.hold_id, NEW.player_id, NEW.placed_version, NEW.amount, NEW.placed_at, NEW.expires_at, NEW.asset, NEW.reason)
)
EXECUTE FUNCTION es.refuse_change();

-- es.append, and in its transaction the rows that follow from the commands that were applied. The first 22 parameters are those of es.append.
--
-- w_*: an opened wallet each. n_*: an entry each. x_*: a transaction each. h_*: a placed hold each. r_*: a resolved hold each.
-- *_command is the number of the command in the batch.
--
-- Nothing here waits for another batch: every row belongs to a stream that es.append has locked, or to a key that it has claimed.
CREATE FUNCTION wallet.append(
    c_scope bytea[], c_key uuid[], c_fingerprint bytea[], c_outcome smallint[], c_reply bytea[],
    s_id uuid[], s_category smallint[], s_key uuid[], s_expected bigint[], s_final bigint[],
    t_command integer[], t_stream uuid[], t_add integer[],
    e_command integer[], e_stream uuid[], e_version bigint[], e_id uuid[], e_type smallint[],
    e_topic smallint[], e_key uuid[], e_headers bytea[], e_envelope bytea[],
    w_command integer[], w_player uuid[], w_opened_at timestamptz[],
    n_command integer[], n_player uuid[], n_asset smallint[], n_version bigint[], n_kind smallint[],
    n_posted_delta bigint[], n_held_delta bigint[], n_posted_after bigint[], n_held_after bigint[],
    n_transaction uuid[], n_hold uuid[], n_counterparty_player uuid[], n_counterparty_account smallint[],
    n_event uuid[], n_created_at timestamptz[], n_reason text[],
    x_command integer[], x_id uuid[], x_asset smallint[], x_amount bigint[], x_from_player uuid[], x_from_account smallint[],
    x_to_player uuid[], x_to_account smallint[], x_reverses uuid[], x_created_at timestamptz[],
    h_command integer[], h_id uuid[], h_player uuid[], h_version bigint[], h_asset smallint[], h_amount bigint[],
    h_placed_at timestamptz[], h_expires_at timestamptz[], h_reason text[],
    r_command integer[], r_hold uuid[], r_state smallint[], r_captured bigint[], r_resolved_at timestamptz[]
) RETURNS es.exception_row[] LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    rows es.exception_row[];
    failed integer[] := '{}';
    expected integer;
    resolved integer;
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

    IF cardinality(w_command) > 0 THEN
        INSERT INTO wallet.wallets (player_id, opened_at)
        SELECT w.player, w.opened_at FROM unnest(w_command, w_player, w_opened_at) AS w (command, player, opened_at)
        WHERE cardinality(failed) = 0 OR NOT w.command = ANY (failed);
    END IF;

    IF cardinality(n_command) > 0 THEN
        INSERT INTO wallet.entries (
            player_id, asset, version, kind, posted_delta, held_delta, posted_after, held_after,
            transaction_id, hold_id, counterparty_player, counterparty_account, event_id, created_at, reason
        )
        SELECT
            n.player, n.asset, n.version, n.kind, n.posted_delta, n.held_delta, n.posted_after, n.held_after,
            n.transaction, n.hold, n.counterparty_player, n.counterparty_account, n.event, n.created_at, n.reason
        FROM unnest(
            n_command, n_player, n_asset, n_version, n_kind, n_posted_delta, n_held_delta, n_posted_after, n_held_after,
            n_transaction, n_hold, n_counterparty_player, n_counterparty_account, n_event, n_created_at, n_reason
        ) AS n (
            command, player, asset, version, kind, posted_delta, held_delta, posted_after, held_after,
            transaction, hold, counterparty_player, counterparty_account, event, created_at, reason
        )
        WHERE cardinality(failed) = 0 OR NOT n.command = ANY (failed);
    END IF;

    IF cardinality(x_command) > 0 THEN
        INSERT INTO wallet.transactions (
            transaction_id, asset, amount, from_player, from_account, to_player, to_account, reverses, created_at
        )
        SELECT x.id, x.asset, x.amount, x.from_player, x.from_account, x.to_player, x.to_account, x.reverses, x.created_at
        FROM unnest(
            x_command, x_id, x_asset, x_amount, x_from_player, x_from_account, x_to_player, x_to_account, x_reverses, x_created_at
        ) AS x (command, id, asset, amount, from_player, from_account, to_player, to_account, reverses, created_at)
        WHERE cardinality(failed) = 0 OR NOT x.command = ANY (failed);
    END IF;

    -- Placed before resolved: a batch may do both to one hold.
    IF cardinality(h_command) > 0 THEN
        INSERT INTO wallet.holds (hold_id, player_id, placed_version, asset, amount, placed_at, expires_at, reason)
        SELECT h.id, h.player, h.version, h.asset, h.amount, h.placed_at, h.expires_at, h.reason
        FROM unnest(h_command, h_id, h_player, h_version, h_asset, h_amount, h_placed_at, h_expires_at, h_reason)
            AS h (command, id, player, version, asset, amount, placed_at, expires_at, reason)
        WHERE cardinality(failed) = 0 OR NOT h.command = ANY (failed);
    END IF;

    IF cardinality(r_command) > 0 THEN
        SELECT count(*) INTO expected FROM unnest(r_command) AS r (command) WHERE NOT r.command = ANY (failed);
        UPDATE wallet.holds AS t SET state = r.state, captured_amount = r.captured, resolved_at = r.resolved_at
        FROM unnest(r_command, r_hold, r_state, r_captured, r_resolved_at) AS r (command, hold, state, captured, resolved_at)
        WHERE t.hold_id = r.hold AND t.state = 1 AND NOT r.command = ANY (failed);
        GET DIAGNOSTICS resolved = ROW_COUNT;
        IF resolved <> expected THEN
            RAISE EXCEPTION 'of % holds resolved by events, % are pending in wallet.holds', expected, resolved
            USING ERRCODE = 'data_corrupted';
        END IF;
    END IF;
    RETURN rows;
END
$$;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA wallet FROM PUBLIC;
GRANT USAGE ON SCHEMA wallet TO idempo_wallet, idempo_reader;
GRANT EXECUTE ON FUNCTION wallet.append TO idempo_wallet;
GRANT SELECT ON ALL TABLES IN SCHEMA wallet TO idempo_wallet, idempo_reader;
