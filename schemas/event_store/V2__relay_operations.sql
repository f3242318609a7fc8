-- What a relay does with rows that Kafka refuses, what people do with a relay, and how a restored database is noticed. The relay's own
-- documentation (`outbox-relay`, modules quarantine and rebase) says why order holds and nothing is lost.
--
-- The relay changes nothing here but through the functions below. Those that it calls of its own accord name the epoch of its lease, and do
-- nothing (they answer false, or null) for a relay that has lost it; those that people's requests call leave a row in the audit, whatever comes
-- of the request.

-- Rows of the outbox that are kept from Kafka, as they were, with why.
-- state: held      refused by Kafka; later rows of its key wait behind it
--        parked    not refused: waits behind an earlier row of its key
--        diverted  refused by Kafka; nothing waits for it
--        requeued  people want it sent again, and the relay has not yet
--        sent      in Kafka
--        skipped   people want it never sent
CREATE TABLE outbox.quarantine (
    seq bigint PRIMARY KEY,
    xid xid8 NOT NULL,
    recorded_at timestamptz NOT NULL,
    topic smallint NOT NULL,
    key uuid NOT NULL,
    headers bytea,
    payload bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('held', 'parked', 'diverted', 'requeued', 'sent', 'skipped')),
    -- Whether later rows of its key wait for it.
    in_order boolean NOT NULL,
    code text NOT NULL,
    reason text NOT NULL,
    refusals integer NOT NULL,
    epoch bigint NOT NULL,
    quarantined_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX quarantine_waiting ON outbox.quarantine (key, seq) WHERE state IN ('held', 'parked', 'diverted', 'requeued');
CREATE INDEX quarantine_changed ON outbox.quarantine (changed_at) WHERE state IN ('sent', 'skipped');

-- Who did what to this outbox, and what came of it. outcome is DONE, or the reason of the refusal.
CREATE TABLE outbox.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    caller text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    reason text NOT NULL,
    outcome text NOT NULL,
    detail text NOT NULL
);
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON outbox.audit
FOR EACH STATEMENT EXECUTE FUNCTION es.refuse_change();

-- What people want of the relays. revision rises with every wish about quarantined rows. The holder of the lease with step_down_epoch gives it up.
CREATE TABLE outbox.control (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    revision bigint NOT NULL DEFAULT 0,
    paused boolean NOT NULL DEFAULT false,
    paused_by text,
    pause_reason text,
    paused_at timestamptz,
    step_down_epoch bigint
);
INSERT INTO outbox.control DEFAULT VALUES;

-- Which database the cursor belongs to: the cluster's identifier, its timeline, and the database's own number. Unknown before the first relay.
CREATE TABLE outbox.identity (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    system_identifier bigint,
    timeline bigint,
    database_oid oid,
    seen_at timestamptz
);
INSERT INTO outbox.identity DEFAULT VALUES;

-- Whether the lease is still of this epoch. The lock keeps it so until the end of the transaction: a take-over writes the cursor's row, so it
-- waits, or this waits and then sees the epoch that it left.
CREATE FUNCTION outbox.holds(holder_epoch bigint) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM outbox.cursor AS c WHERE c.epoch = holder_epoch FOR SHARE;
    RETURN FOUND;
END
$$;

-- Adds a row to the audit. Texts are cut to what is worth keeping.
CREATE FUNCTION outbox.record_audit(caller text, action text, target text, reason text, outcome text, detail text) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO outbox.audit (caller, action, target, reason, outcome, detail)
    VALUES (left(caller, 64), left(action, 64), left(target, 1000), left(reason, 1000), left(outcome, 64), left(detail, 1000))
    RETURNING id
$$;

-- Puts rows into the quarantine, copied from the outbox's own tables; a row that is there already stays as it is, but that one which was
-- sent again and refused again is held again. Answers false where the epoch is an old one. Fails where a row is in neither place: then nothing
-- may pass it.
CREATE FUNCTION outbox.quarantine_rows(
    holder_epoch bigint, q_seq bigint[], q_state text[], q_in_order boolean[], q_code text[], q_reason text[]
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    missing bigint;
BEGIN
    IF NOT outbox.holds(holder_epoch) THEN
        RETURN false;
    END IF;
    PERFORM FROM outbox.quarantine AS x WHERE x.seq = ANY (q_seq) ORDER BY x.seq FOR UPDATE;
    UPDATE outbox.quarantine AS x
    SET state = CASE WHEN x.in_order THEN 'held' ELSE 'diverted' END, code = q.code, reason = q.reason, refusals = x.refusals + 1,
        epoch = holder_epoch, changed_at = clock_timestamp()
    FROM unnest(q_seq, q_state, q_code, q_reason) AS q (seq, state, code, reason)
    WHERE x.seq = q.seq AND x.state IN ('requeued', 'parked') AND q.state IN ('held', 'diverted');
    INSERT INTO outbox.quarantine (seq, xid, recorded_at, topic, key, headers, payload, state, in_order, code, reason, refusals, epoch)
    SELECT o.seq, o.xid, o.recorded_at, o.topic, o.key, o.headers, o.payload, q.state, q.in_order, q.code, q.reason,
        CASE WHEN q.state = 'parked' THEN 0 ELSE 1 END, holder_epoch
    FROM unnest(q_seq, q_state, q_in_order, q_code, q_reason) AS q (seq, state, in_order, code, reason)
    CROSS JOIN LATERAL (
        SELECT * FROM outbox.r0 AS r WHERE r.seq = q.seq
        UNION ALL SELECT * FROM outbox.r1 AS r WHERE r.seq = q.seq
        UNION ALL SELECT * FROM outbox.r2 AS r WHERE r.seq = q.seq
    ) AS o
    ON CONFLICT (seq) DO NOTHING;
    SELECT q.seq INTO missing FROM unnest(q_seq) AS q (seq) WHERE NOT EXISTS (SELECT FROM outbox.quarantine AS x WHERE x.seq = q.seq) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'row % is neither in the outbox nor in the quarantine', missing;
    END IF;
    RETURN true;
END
$$;

-- Notes that rows of the quarantine are in Kafka. Answers false where the epoch is an old one.
CREATE FUNCTION outbox.mark_sent(holder_epoch bigint, sent bigint[]) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT outbox.holds(holder_epoch) THEN
        RETURN false;
    END IF;
    PERFORM FROM outbox.quarantine AS x WHERE x.seq = ANY (sent) ORDER BY x.seq FOR UPDATE;
    UPDATE outbox.quarantine AS x SET state = 'sent', epoch = holder_epoch, changed_at = clock_timestamp()
    WHERE x.seq = ANY (sent) AND x.state IN ('requeued', 'parked');
    RETURN true;
END
$$;

-- Deletes rows of the quarantine that were sent or skipped before `before`, and that the cursor has passed; returns how many.
CREATE FUNCTION outbox.forget_quarantined(before timestamptz) RETURNS bigint LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        DELETE FROM outbox.quarantine AS x USING outbox.cursor AS c
        WHERE x.state IN ('sent', 'skipped') AND x.changed_at < before AND pg_visible_in_snapshot(x.xid, c.s1)
        RETURNING x.seq
    )
    SELECT count(*) FROM gone
$$;

-- Has refused rows sent again: those that are listed, or, where none are, all that the filters fit. All of a list or none: `culprit` is the row
-- that could not be. Answers as the audit has it.
CREATE FUNCTION outbox.requeue_rows(
    caller text, why text, wanted bigint[], f_key uuid, f_topic smallint, f_code text,
    OUT outcome text, OUT culprit bigint, OUT changed bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    target text := CASE WHEN wanted IS NULL THEN concat_ws(' ', 'key=' || f_key, 'topic=' || f_topic, 'code=' || f_code)
        ELSE 'rows ' || array_to_string(wanted, ',') END;
BEGIN
    outcome := 'DONE';
    changed := 0;
    UPDATE outbox.control SET revision = revision + 1;
    IF wanted IS NOT NULL THEN
        PERFORM FROM outbox.quarantine AS x WHERE x.seq = ANY (wanted) ORDER BY x.seq FOR UPDATE;
        SELECT w.seq, CASE WHEN x.seq IS NULL THEN 'QUARANTINED_ROW_NOT_FOUND' ELSE 'QUARANTINED_ROW_STATE' END INTO culprit, outcome
        FROM unnest(wanted) AS w (seq) LEFT JOIN outbox.quarantine AS x ON x.seq = w.seq
        WHERE x.seq IS NULL OR x.state NOT IN ('held', 'diverted', 'requeued')
        ORDER BY w.seq LIMIT 1;
    ELSE
        PERFORM FROM outbox.quarantine AS x
        WHERE x.state IN ('held', 'diverted') AND (f_key IS NULL OR x.key = f_key) AND (f_topic IS NULL OR x.topic = f_topic)
            AND (f_code IS NULL OR x.code = f_code)
        ORDER BY x.seq FOR UPDATE;
    END IF;
    IF culprit IS NULL THEN
        outcome := 'DONE';
        UPDATE outbox.quarantine AS x SET state = 'requeued', changed_at = clock_timestamp()
        WHERE x.state IN ('held', 'diverted') AND (wanted IS NULL OR x.seq = ANY (wanted)) AND (f_key IS NULL OR x.key = f_key)
            AND (f_topic IS NULL OR x.topic = f_topic) AND (f_code IS NULL OR x.code = f_code);
        GET DIAGNOSTICS changed = ROW_COUNT;
    END IF;
    PERFORM outbox.record_audit(caller, 'requeue', target, why, outcome, changed || ' rows');
END
$$;

-- Has rows never sent: refused ones, and parked ones while a refused row stands before them (the relay can't be sending those). All or none.
CREATE FUNCTION outbox.skip_rows(caller text, why text, wanted bigint[], OUT outcome text, OUT culprit bigint, OUT changed bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    outcome := 'DONE';
    changed := 0;
    UPDATE outbox.control SET revision = revision + 1;
    -- The keys' other waiting rows are locked too: whether one is held must stay true until the end.
    PERFORM FROM outbox.quarantine AS x
    WHERE x.seq = ANY (wanted)
        OR (x.state IN ('held', 'parked', 'diverted', 'requeued') AND x.key IN (SELECT y.key FROM outbox.quarantine AS y WHERE y.seq = ANY (wanted)))
    ORDER BY x.seq FOR UPDATE;
    SELECT w.seq, CASE WHEN x.seq IS NULL THEN 'QUARANTINED_ROW_NOT_FOUND' ELSE 'QUARANTINED_ROW_STATE' END INTO culprit, outcome
    FROM unnest(wanted) AS w (seq) LEFT JOIN outbox.quarantine AS x ON x.seq = w.seq
    WHERE x.seq IS NULL OR NOT (x.state IN ('held', 'diverted', 'skipped') OR (x.state = 'parked' AND EXISTS (
        SELECT FROM outbox.quarantine AS h WHERE h.key = x.key AND h.seq < x.seq AND h.state = 'held'
    )))
    ORDER BY w.seq LIMIT 1;
    IF culprit IS NULL THEN
        outcome := 'DONE';
        UPDATE outbox.quarantine AS x SET state = 'skipped', changed_at = clock_timestamp()
        WHERE x.seq = ANY (wanted) AND x.state IN ('held', 'diverted', 'parked');
        GET DIAGNOSTICS changed = ROW_COUNT;
    END IF;
    PERFORM outbox.record_audit(caller, 'skip', 'rows ' || array_to_string(wanted, ','), why, outcome, changed || ' rows');
END
$$;

-- Stops or resumes relaying, until told otherwise.
CREATE FUNCTION outbox.set_paused(caller text, why text, pause boolean) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE outbox.control AS c
    SET paused = pause, paused_by = CASE WHEN pause THEN left(caller, 64) END, pause_reason = CASE WHEN pause THEN left(why, 1000) END,
        paused_at = CASE WHEN pause THEN clock_timestamp() END
    WHERE c.paused <> pause;
    PERFORM outbox.record_audit(caller, CASE WHEN pause THEN 'pause' ELSE 'resume' END, 'outbox', why, 'DONE', CASE WHEN FOUND THEN '' ELSE 'as it was' END);
END
$$;

-- Asks the holder of the lease to give it up; of the epoch `wanted` where that is not 0. `held` is the lease's epoch.
CREATE FUNCTION outbox.step_down(caller text, why text, wanted bigint, OUT outcome text, OUT held bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    SELECT l.epoch, CASE WHEN l.owner IS NULL OR l.expires_at <= clock_timestamp() THEN 'OUTBOX_NOT_HELD'
        WHEN wanted NOT IN (0, l.epoch) THEN 'LEASE_EPOCH_MISMATCH' ELSE 'DONE' END
    INTO STRICT held, outcome FROM outbox.lease AS l;
    IF outcome = 'DONE' THEN
        UPDATE outbox.control SET step_down_epoch = held;
    END IF;
    PERFORM outbox.record_audit(caller, 'step_down', 'epoch ' || held, why, outcome, '');
END
$$;

-- Which database this is. The timeline is that of the log as it is written: the control file has it only after the next checkpoint.
CREATE FUNCTION outbox.this_database(OUT system_identifier bigint, OUT timeline bigint, OUT database_oid oid) LANGUAGE sql
SET search_path = pg_catalog, pg_temp AS $$
    SELECT (SELECT s.system_identifier FROM pg_control_system() AS s),
        ('x' || lpad(left(pg_walfile_name(pg_current_wal_lsn()), 8), 16, '0'))::bit(64)::bigint,
        (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
$$;

-- Makes the cursor belong to the database that it is in. With `renumber`, what the cursor and the rows say about transactions is from another
-- numbering and means nothing here: then every row of the outbox is relayed again, in the order of the numbers. Returns how many rows that
-- are, or null where the epoch is an old one.
--
-- Why that is right: behind the lock no transaction that wrote into the tables runs, so each row in them is committed, and xid 3 says so: it is
-- below every snapshot of a running cluster. The cursor shows nothing, and its floor for every xid is 0. So the first batch begins at the first
-- row, and who writes after the lock has an xid of this cluster and a higher number.
CREATE FUNCTION outbox.rebase(holder_epoch bigint, caller text, kind text, why text, renumber boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '60s' AS $$
DECLARE
    again bigint := 0;
    highest bigint;
BEGIN
    PERFORM FROM outbox.cursor AS c WHERE c.epoch = holder_epoch FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF renumber THEN
        LOCK TABLE outbox.r0, outbox.r1, outbox.r2 IN ACCESS EXCLUSIVE MODE;
        UPDATE outbox.r0 SET xid = '3' WHERE xid <> '3';
        UPDATE outbox.r1 SET xid = '3' WHERE xid <> '3';
        UPDATE outbox.r2 SET xid = '3' WHERE xid <> '3';
        UPDATE outbox.quarantine SET xid = '3' WHERE xid <> '3';
        SELECT count(*), max(o.seq) INTO again, highest
        FROM (SELECT seq FROM outbox.r0 UNION ALL SELECT seq FROM outbox.r1 UNION ALL SELECT seq FROM outbox.r2) AS o;
        IF highest > coalesce(pg_sequence_last_value('outbox.seq'), 0) THEN
            PERFORM setval('outbox.seq', highest);
        END IF;
        UPDATE outbox.cursor SET s1 = '3:3:', xip_floors = '{}', mark_xids = '{3}', mark_floors = '{0}', s2 = NULL, s2_mark_xid = NULL,
            s2_mark_floor = NULL, acked_seq = 0, updated_at = clock_timestamp();
    END IF;
    UPDATE outbox.identity AS i
    SET system_identifier = t.system_identifier, timeline = t.timeline, database_oid = t.database_oid, seen_at = clock_timestamp()
    FROM outbox.this_database() AS t;
    IF kind <> 'first' THEN
        PERFORM outbox.record_audit(caller, 'rebase', kind, why, 'DONE', again || ' rows are relayed again');
    END IF;
    RETURN again;
END
$$;

GRANT SELECT ON outbox.quarantine, outbox.audit, outbox.control, outbox.identity TO idempo_reader, idempo_relay_group;
GRANT EXECUTE ON FUNCTION
    outbox.record_audit, outbox.quarantine_rows, outbox.mark_sent, outbox.forget_quarantined, outbox.requeue_rows, outbox.skip_rows,
    outbox.set_paused, outbox.step_down, outbox.this_database, outbox.rebase
TO idempo_relay_group;
