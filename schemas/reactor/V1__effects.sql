-- The effects of reactors, and where reactors stand in their topics. A history of its own: any database whose process has reactors takes it in. Nothing here
-- belongs to a generation of a projection, so nothing here is cleared, copied or switched with one.

CREATE SCHEMA reactor;

-- Where a reactor goes on in a partition. Moved in the transaction that enters the effects of what is before it.
-- epoch is the fence: it grows with each assignment, and effects are entered, expire and fail only under it.
-- next_offset: NULL until it is decided where the partition begins, which is once.
-- last_event_id: the event in the record before next_offset, where it is known.
-- settlements: how often people have settled an effect of the partition, so that its task notices.
CREATE TABLE reactor.position (
    reactor text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL CHECK (partition >= 0),
    epoch bigint NOT NULL DEFAULT 1 CHECK (epoch > 0),
    next_offset bigint CHECK (next_offset >= 0),
    last_event_id uuid,
    settlements bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (reactor, topic, partition)
) WITH (fillfactor = 20);

-- Every effect that a reactor ever had. Its id follows from its event, so an event that comes again finds it here, for as long as the table stands:
-- rows are never deleted.
-- state: pending   it is to be performed
--        done      it was performed
--        failed    it can't be, and waits for people
--        expired   it was too old to be worth it
--        dropped   people have dropped it
CREATE TABLE reactor.effect (
    effect_id uuid PRIMARY KEY,
    reactor text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    ordinal integer NOT NULL,
    event_id uuid NOT NULL,
    key uuid NOT NULL,
    decided_at timestamptz NOT NULL,
    traceparent text NOT NULL,
    effect bytea NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'done', 'failed', 'expired', 'dropped')),
    attempts integer NOT NULL DEFAULT 0,
    code text,
    reason text,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state_changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (state <> 'failed' OR code IS NOT NULL)
) WITH (fillfactor = 80);
-- A reactor asks for these alone; they are few, however long the table is.
CREATE INDEX effect_pending ON reactor.effect (reactor, topic, partition, record_offset, ordinal) WHERE state = 'pending';
CREATE INDEX effect_failed ON reactor.effect (reactor, topic, partition, key) WHERE state = 'failed';

-- What people have settled, and why.
CREATE TABLE reactor.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    caller text NOT NULL CHECK (caller <> ''),
    action text NOT NULL,
    target text NOT NULL,
    reason text NOT NULL CHECK (reason <> '')
);

CREATE FUNCTION reactor.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is never cleared', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER effect_never_cleared BEFORE DELETE OR TRUNCATE ON reactor.effect
FOR EACH STATEMENT EXECUTE FUNCTION reactor.refuse_change();
CREATE TRIGGER position_never_cleared BEFORE DELETE OR TRUNCATE ON reactor.position
FOR EACH STATEMENT EXECUTE FUNCTION reactor.refuse_change();
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reactor.audit
FOR EACH STATEMENT EXECUTE FUNCTION reactor.refuse_change();

-- What has ended stays so, but for what has failed: it may have been performed after all, or people settle it.
CREATE FUNCTION reactor.check_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'effect % is % and can''t become %', OLD.effect_id, OLD.state, NEW.state USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER effect_ends_once BEFORE UPDATE ON reactor.effect FOR EACH ROW
WHEN (NOT (OLD.state = 'pending' OR (OLD.state = 'failed' AND NEW.state IN ('done', 'pending', 'dropped'))))
EXECUTE FUNCTION reactor.check_state();

-- Settles an effect that has failed: `state` is pending (it is performed again) or dropped. False where it has not.
CREATE FUNCTION reactor.settle(id uuid, wanted text, caller text, reason text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    settled reactor.effect;
BEGIN
    UPDATE reactor.effect AS e SET state = wanted, state_changed_at = clock_timestamp()
    WHERE e.effect_id = id AND e.state = 'failed' AND wanted IN ('pending', 'dropped')
    RETURNING e.* INTO settled;
    IF settled.effect_id IS NULL THEN
        RETURN false;
    END IF;
    UPDATE reactor.position AS p SET settlements = settlements + 1
    WHERE p.reactor = settled.reactor AND p.topic = settled.topic AND p.partition = settled.partition;
    INSERT INTO reactor.audit (caller, action, target, reason)
    VALUES (caller, CASE wanted WHEN 'pending' THEN 'perform_again' ELSE 'drop' END, id::text, settle.reason);
    RETURN true;
END
$$;

-- Passes over one record, which makes no effect then: for one that no program can read. Whoever has the partition gives it up and takes it anew.
-- False where the reactor does not stand before that record.
CREATE FUNCTION reactor.pass_over(name text, of_topic text, number integer, record_offset bigint, caller text, reason text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE reactor.position AS p SET next_offset = record_offset + 1, last_event_id = NULL, epoch = epoch + 1
    WHERE p.reactor = name AND p.topic = of_topic AND p.partition = number AND p.next_offset = record_offset;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO reactor.audit (caller, action, target, reason)
    VALUES (caller, 'pass_over', format('%s %s/%s@%s', name, of_topic, number, record_offset), pass_over.reason);
    RETURN true;
END
$$;

GRANT USAGE ON SCHEMA reactor TO idempo_reactor_group;
GRANT SELECT, INSERT ON reactor.position, reactor.effect TO idempo_reactor_group;
GRANT UPDATE (epoch, next_offset, last_event_id) ON reactor.position TO idempo_reactor_group;
GRANT UPDATE (state, attempts, code, reason, state_changed_at) ON reactor.effect TO idempo_reactor_group;
GRANT EXECUTE ON FUNCTION reactor.settle TO idempo_reactor_group;
