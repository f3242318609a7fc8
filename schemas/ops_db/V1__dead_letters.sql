-- Dead letters as people see and settle them. The service's own documentation (`dlq-admin`) says why nothing is lost and nothing counts twice.
--
-- Nobody changes anything here but through the functions of V2 and V3. Those that people's requests call leave a row in the audit in the same transaction, whatever
-- comes of the request; those that the processes call of their own accord name an epoch, and do nothing for a process that was overtaken.

CREATE SCHEMA ops;

-- Where each partition of the dead-letter topics is read on, in the transaction of the letters that were read. Who takes a partition raises its epoch.
CREATE TABLE ops.position (
    topic text NOT NULL,
    partition integer NOT NULL,
    epoch bigint NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);

-- What dead letters are counted by.
CREATE TABLE ops.dead_letter_group (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL,
    event_type text NOT NULL,
    topic text NOT NULL,
    consumer_group text NOT NULL,
    disposition text NOT NULL,
    UNIQUE (code, event_type, topic, consumer_group, disposition)
);

-- A record that a consumer could not take: one row for each (consumer group, topic, partition, offset), however often it was produced to the
-- dead-letter topic. Its bytes are in a table beside this one, so that lists and counts read short rows.
-- state: open         its consumer has it, as far as is known, and waits for a decision
--        replayed     its consumer has applied it
--        discarded    its consumer never applies it
--        gone         its consumer has it no more, and not by what was done here
--        export_only  its consumer does not have it: it was imported, or dropped there before it was restored here
-- revision rises with whatever makes a plan that was made before out of date.
CREATE TABLE ops.dead_letter (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    consumer_group text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    state text NOT NULL CHECK (state IN ('open', 'replayed', 'discarded', 'gone', 'export_only')),
    group_id bigint NOT NULL REFERENCES ops.dead_letter_group (id),
    reason text NOT NULL,
    stage text NOT NULL,
    first_code text NOT NULL,
    first_reason text NOT NULL,
    attempts integer NOT NULL,
    replay_count integer NOT NULL,
    event_id uuid,
    stream_id uuid,
    version bigint,
    key_text text,
    has_key boolean NOT NULL,
    value_bytes bigint NOT NULL,
    tombstone boolean NOT NULL,
    recorded_at timestamptz,
    first_failed_at timestamptz NOT NULL,
    last_failed_at timestamptz NOT NULL,
    state_changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    app_version text NOT NULL,
    traceparent text NOT NULL,
    note text NOT NULL DEFAULT '',
    note_caller text NOT NULL DEFAULT '',
    revision bigint NOT NULL DEFAULT 1,
    UNIQUE (consumer_group, topic, partition, record_offset)
);
-- The groups are counted from this index alone.
CREATE INDEX dead_letter_open ON ops.dead_letter (group_id, first_failed_at, last_failed_at) WHERE state = 'open';
CREATE INDEX dead_letter_by_group ON ops.dead_letter (group_id, id);
CREATE INDEX dead_letter_by_key ON ops.dead_letter (key_text, id);
CREATE INDEX dead_letter_settled ON ops.dead_letter (state_changed_at) WHERE state IN ('replayed', 'discarded', 'gone');

-- The bytes of a dead letter, and the headers that its record had before it died.
CREATE TABLE ops.dead_letter_record (
    id bigint PRIMARY KEY REFERENCES ops.dead_letter (id) ON DELETE CASCADE,
    key bytea,
    value bytea,
    header_keys text[] NOT NULL,
    header_values bytea[] NOT NULL
);

-- A job: dead letters with which one thing is done. parts: its members by what they are alike in, as they were when it was planned: an array of
-- {consumer_group, topic, code, event_type, count, guarded}.
-- allowance: how many more members may be sent before it pauses; null for all. The worker is the process that works on it, until worker_until; epoch
-- rises whenever one takes it. settled_to: members up to this ordinal are settled.
CREATE TABLE ops.job (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action text NOT NULL CHECK (action IN ('replay', 'discard')),
    state text NOT NULL DEFAULT 'planned' CHECK (state IN ('planned', 'applying', 'paused', 'cancelling', 'cancelled', 'done')),
    caller text NOT NULL,
    reason text NOT NULL,
    members bigint NOT NULL DEFAULT 0,
    parts jsonb NOT NULL DEFAULT '[]',
    sent bigint NOT NULL DEFAULT 0,
    applied bigint NOT NULL DEFAULT 0,
    discarded bigint NOT NULL DEFAULT 0,
    failed_again bigint NOT NULL DEFAULT 0,
    gone bigint NOT NULL DEFAULT 0,
    refused bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    records bigint NOT NULL DEFAULT 0,
    members_per_second_max integer NOT NULL DEFAULT 0,
    members_max bigint NOT NULL DEFAULT 0,
    allowance bigint,
    settled_to bigint NOT NULL DEFAULT 0,
    force boolean NOT NULL DEFAULT false,
    apply_caller text NOT NULL DEFAULT '',
    apply_reason text NOT NULL DEFAULT '',
    worker text,
    worker_until timestamptz,
    epoch bigint NOT NULL DEFAULT 0,
    hindrance text NOT NULL DEFAULT '',
    planned_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    rehearsed_at timestamptz,
    applied_at timestamptz,
    ended_at timestamptz
);
CREATE INDEX job_under_way ON ops.job (id) WHERE state IN ('applying', 'cancelling');

-- A member of a job, as it was when the job was planned, and what has become of it. Ordinals follow the order of consumer group, topic, partition and
-- offset. `sent` stands before the consumer is asked: what a consumer says is gone and was never sent, was not settled by this job.
-- No state is in an index, so a member changes where it stands. Without foreign keys: checked row by row, and with a lock on each letter, they take longer than all the rest of a plan. Only functions write here.
CREATE TABLE ops.job_member (
    job_id bigint NOT NULL,
    ordinal bigint NOT NULL,
    letter_id bigint NOT NULL,
    revision bigint NOT NULL,
    replay_count integer NOT NULL,
    state text NOT NULL DEFAULT 'waiting'
        CHECK (state IN ('waiting', 'sent', 'applied', 'discarded', 'failed_again', 'gone', 'refused', 'cancelled')),
    code text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '',
    records bigint NOT NULL DEFAULT 0,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (job_id, ordinal)
) WITH (fillfactor = 70);
CREATE INDEX job_member_by_letter ON ops.job_member (letter_id);

-- Who did what, and what came of it. outcome is DONE, or the reason of the refusal. It outlives letters and jobs.
CREATE TABLE ops.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    caller text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    reason text NOT NULL,
    outcome text NOT NULL,
    detail text NOT NULL
);

CREATE FUNCTION ops.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%.% is append-only', TG_TABLE_SCHEMA, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END
$$;

CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ops.audit
FOR EACH STATEMENT EXECUTE FUNCTION ops.refuse_change();

-- Adds a row to the audit. Texts are cut to what is worth keeping.
CREATE FUNCTION ops.record_audit(caller text, action text, target text, reason text, outcome text, detail text) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO ops.audit (caller, action, target, reason, outcome, detail)
    VALUES (left(caller, 64), left(action, 64), left(target, 1000), left(reason, 1000), left(outcome, 64), left(detail, 1000))
    RETURNING id
$$;

-- The resource name of a dead letter.
CREATE FUNCTION ops.letter_name(l ops.dead_letter) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('deadLetters/%s.%s.%s.%s', l.consumer_group, l.topic, l.partition, l.record_offset)
$$;

GRANT USAGE ON SCHEMA ops TO idempo_dlq_admin;
GRANT SELECT ON ALL TABLES IN SCHEMA ops TO idempo_dlq_admin;
GRANT EXECUTE ON FUNCTION ops.record_audit(text, text, text, text, text, text) TO idempo_dlq_admin;
GRANT EXECUTE ON FUNCTION ops.letter_name(ops.dead_letter) TO idempo_dlq_admin;
