-- Jobs: planned, applied, cancelled by people; worked on by one process at a time.
--
-- Everybody who changes a job's members holds the job's row first, and names its epoch where he is a worker. So a worker that was overtaken writes
-- nothing, and counts beside the job are those of its members.

-- What the members of a job are alike in.
CREATE FUNCTION ops.parts_of(of_job bigint, guard integer) RETURNS jsonb LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(jsonb_agg(to_jsonb(p) ORDER BY p.count DESC, p.consumer_group, p.topic, p.code, p.event_type), '[]')
    FROM (
        SELECT g.consumer_group, g.topic, g.code, g.event_type, count(*) AS count, count(*) FILTER (WHERE m.replay_count >= guard) AS guarded
        FROM ops.job_member AS m
        JOIN ops.dead_letter AS l ON l.id = m.letter_id
        JOIN ops.dead_letter_group AS g ON g.id = l.group_id
        WHERE m.job_id = of_job
        GROUP BY g.consumer_group, g.topic, g.code, g.event_type
    ) AS p
$$;

-- Makes a job of the dead letters that are named (groups is not null), or of all open ones that fit. guard: how often one is replayed in vain before
-- its consumer refuses it. `audited` is what stands in the audit as what was done.
CREATE FUNCTION ops.plan_job(
    wanted text, groups text[], topics text[], partitions integer[], offsets bigint[],
    f_group_id bigint, f_code text, f_event_type text, f_topic text, f_consumer_group text, f_key text, f_from timestamptz, f_before timestamptz,
    guard integer, most bigint, audited text, target text, who text, why text, OUT outcome text, OUT culprit text, OUT job_id bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' AS $$
DECLARE
    found_ids bigint[];
    count bigint;
BEGIN
    IF groups IS NOT NULL THEN
        SELECT n.name, CASE WHEN n.id IS NULL THEN 'DEAD_LETTER_NOT_FOUND' ELSE 'DEAD_LETTER_NOT_OPEN' END INTO culprit, outcome
        FROM ops.letters_named(groups, topics, partitions, offsets) AS n WHERE n.state IS DISTINCT FROM 'open' LIMIT 1;
        IF NOT FOUND THEN
            SELECT array_agg(DISTINCT n.id) INTO found_ids FROM ops.letters_named(groups, topics, partitions, offsets) AS n;
        END IF;
    ELSE
        SELECT array_agg(f.id) INTO found_ids
        FROM (
            SELECT l.id FROM ops.dead_letter AS l
            WHERE l.state = 'open' AND (f_key IS NULL OR l.key_text = f_key) AND (f_from IS NULL OR l.last_failed_at >= f_from)
                AND (f_before IS NULL OR l.last_failed_at < f_before)
                AND l.group_id IN (
                    SELECT g.id FROM ops.dead_letter_group AS g
                    WHERE (f_group_id IS NULL OR g.id = f_group_id) AND (f_code IS NULL OR g.code = f_code)
                        AND (f_event_type IS NULL OR g.event_type = f_event_type) AND (f_topic IS NULL OR g.topic = f_topic)
                        AND (f_consumer_group IS NULL OR g.consumer_group = f_consumer_group)
                )
            LIMIT most + 1
        ) AS f;
    END IF;
    count := coalesce(cardinality(found_ids), 0);
    outcome := coalesce(outcome, CASE WHEN count = 0 THEN 'NO_DEAD_LETTERS' WHEN count > most THEN 'JOB_TOO_LARGE' ELSE 'DONE' END);
    IF outcome = 'DONE' THEN
        INSERT INTO ops.job (action, caller, reason, members) VALUES (wanted, who, why, count) RETURNING id INTO job_id;
        INSERT INTO ops.job_member (job_id, ordinal, letter_id, revision, replay_count)
        SELECT plan_job.job_id, row_number() OVER (ORDER BY l.consumer_group COLLATE "C", l.topic COLLATE "C", l.partition, l.record_offset), l.id, l.revision, l.replay_count
        FROM unnest(found_ids) AS f (id) JOIN ops.dead_letter AS l USING (id);
        UPDATE ops.job AS j SET parts = ops.parts_of(j.id, guard) WHERE j.id = plan_job.job_id;
    END IF;
    PERFORM ops.record_audit(
        who, audited, coalesce(format('deadLetterJobs/%s', job_id), target), why, outcome,
        CASE outcome WHEN 'DONE' THEN format('%s %s: %s', wanted, count, target) ELSE coalesce(culprit, '') END
    );
END
$$;

-- Begins to apply a job, or goes on with it. `action` is what stands in the audit.
CREATE FUNCTION ops.apply_job(
    of_job bigint, rate integer, most bigint, forced boolean, action text, who text, why text, OUT outcome text, OUT culprit text, OUT number bigint
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET work_mem = '64MB' AS $$
DECLARE
    found_state text;
BEGIN
    PERFORM ops.one_at_a_time();
    SELECT j.state INTO found_state FROM ops.job AS j WHERE j.id = of_job FOR UPDATE;
    IF found_state IS NULL THEN
        outcome := 'JOB_NOT_FOUND';
    ELSIF found_state NOT IN ('planned', 'paused') THEN
        outcome := 'JOB_STATE';
        culprit := found_state;
    ELSE
        SELECT count(*), min(ops.letter_name(l)) INTO number, culprit
        FROM ops.job_member AS m JOIN ops.dead_letter AS l ON l.id = m.letter_id
        WHERE m.job_id = of_job AND m.state = 'waiting' AND (l.revision <> m.revision OR l.state <> 'open');
        -- Members that were forgotten with their letters have changed too.
        number := number + (SELECT j.members FROM ops.job AS j WHERE j.id = of_job)
            - (SELECT count(*) FROM ops.job_member AS m WHERE m.job_id = of_job);
        IF number > 0 THEN
            outcome := 'JOB_MEMBERS_CHANGED';
        ELSIF EXISTS (SELECT FROM ops.job AS o WHERE o.state IN ('applying', 'cancelling') AND o.id <> of_job) THEN
            SELECT count(*), min(ops.letter_name(l)) INTO number, culprit
            FROM ops.job AS j
            JOIN ops.job_member AS o ON o.job_id = j.id AND o.state IN ('waiting', 'sent')
            JOIN ops.job_member AS m ON m.job_id = of_job AND m.state = 'waiting' AND m.letter_id = o.letter_id
            JOIN ops.dead_letter AS l ON l.id = m.letter_id
            WHERE j.state IN ('applying', 'cancelling') AND j.id <> of_job;
            IF number > 0 THEN
                outcome := 'DEAD_LETTER_IN_JOB';
            END IF;
        END IF;
        outcome := coalesce(outcome, 'DONE');
    END IF;
    IF outcome = 'DONE' THEN
        UPDATE ops.job AS j SET state = 'applying', members_per_second_max = rate, members_max = most, force = forced,
            allowance = nullif(most, 0), apply_caller = who, apply_reason = why, applied_at = coalesce(j.applied_at, clock_timestamp()),
            hindrance = '', worker = NULL, worker_until = NULL, epoch = j.epoch + 1
        WHERE j.id = of_job;
    END IF;
    PERFORM ops.record_audit(
        who, action, format('deadLetterJobs/%s', of_job), why, outcome,
        CASE outcome
            WHEN 'DONE' THEN format('%s a second, %s at most%s', coalesce(nullif(rate, 0)::text, 'any number'), coalesce(nullif(most, 0)::text, 'all'),
                CASE WHEN forced THEN ', forced' ELSE '' END)
            ELSE concat_ws(', ', number::text, culprit)
        END
    );
END
$$;

-- Ends a job. What was not sent is not sent any more; what was sent is settled by whoever works on it.
CREATE FUNCTION ops.cancel_job(of_job bigint, who text, why text, OUT outcome text, OUT culprit text) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    number bigint := 0;
BEGIN
    SELECT j.state INTO culprit FROM ops.job AS j WHERE j.id = of_job FOR UPDATE;
    IF culprit IS NULL THEN
        outcome := 'JOB_NOT_FOUND';
    ELSIF culprit IN ('cancelling', 'cancelled') THEN
        outcome := 'DONE';
    ELSIF culprit = 'done' THEN
        outcome := 'JOB_STATE';
    ELSE
        outcome := 'DONE';
        UPDATE ops.job_member AS m SET state = 'cancelled', changed_at = clock_timestamp() WHERE m.job_id = of_job AND m.state = 'waiting';
        GET DIAGNOSTICS number = ROW_COUNT;
        UPDATE ops.job AS j SET cancelled = j.cancelled + number, state = CASE WHEN j.sent = 0 THEN 'cancelled' ELSE 'cancelling' END,
            ended_at = CASE WHEN j.sent = 0 THEN clock_timestamp() END
        WHERE j.id = of_job;
    END IF;
    PERFORM ops.record_audit(
        who, 'cancel', format('deadLetterJobs/%s', of_job), why, outcome,
        CASE outcome WHEN 'DONE' THEN format('%s members are not sent', number) ELSE coalesce(culprit, '') END
    );
END
$$;

-- Notes that a job was rehearsed.
CREATE FUNCTION ops.note_rehearsal(of_job bigint, who text, why text, detail text) RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    UPDATE ops.job AS j SET rehearsed_at = clock_timestamp() WHERE j.id = of_job;
    SELECT ops.record_audit(who, 'rehearse', format('deadLetterJobs/%s', of_job), why, 'DONE', detail);
$$;

-- Takes a job that is to be worked on and that nobody works on; no row where there is none.
CREATE FUNCTION ops.take_job(who text, lease_ms bigint)
RETURNS TABLE (id bigint, epoch bigint, action text, rate integer, force boolean, caller text, reason text) LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    UPDATE ops.job AS j
    SET worker = who, worker_until = clock_timestamp() + lease_ms * interval '1 millisecond', epoch = j.epoch + 1
    WHERE j.id = (
        SELECT f.id FROM ops.job AS f
        WHERE f.state IN ('applying', 'cancelling') AND (f.worker_until IS NULL OR f.worker_until <= clock_timestamp())
        ORDER BY f.id LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING j.id, j.epoch, j.action, j.members_per_second_max, j.force, j.apply_caller, j.apply_reason
$$;

-- Has the lease on a job last longer, or ends it (lease_ms = 0). Answers false for a worker that was overtaken.
CREATE FUNCTION ops.renew_job(of_job bigint, worker_epoch bigint, lease_ms bigint) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE ops.job AS j SET worker_until = clock_timestamp() + lease_ms * interval '1 millisecond' WHERE j.id = of_job AND j.epoch = worker_epoch;
    RETURN FOUND;
END
$$;

-- Gives the next members to ask their consumer about, all of one consumer group: those that were sent and are not settled, then some that were not
-- sent, which are from then on. outcome: members, or ended, paused, or lost for a worker that was overtaken.
-- Of members that were just written the planner knows nothing: left alone, it reads and sorts all that are left for each thousand.
CREATE FUNCTION ops.next_members(
    of_job bigint, worker_epoch bigint, most bigint, who text, OUT outcome text, OUT consumer_group text, OUT ordinals bigint[], OUT topics text[],
    OUT partitions integer[], OUT offsets bigint[], OUT resent boolean[]
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    job record;
    fresh bigint;
    first_unsettled bigint;
BEGIN
    SELECT j.state, j.allowance, j.sent, j.settled_to INTO job FROM ops.job AS j WHERE j.id = of_job AND j.epoch = worker_epoch FOR UPDATE;
    IF NOT FOUND OR job.state NOT IN ('applying', 'cancelling') THEN
        outcome := 'lost';
        RETURN;
    END IF;
    SELECT m.ordinal INTO first_unsettled FROM ops.job_member AS m
    WHERE m.job_id = of_job AND m.ordinal > job.settled_to AND m.state IN ('waiting', 'sent')
    ORDER BY m.ordinal LIMIT 1;
    SELECT l.consumer_group INTO consumer_group
    FROM ops.job_member AS m JOIN ops.dead_letter AS l ON l.id = m.letter_id
    WHERE m.job_id = of_job AND m.ordinal >= first_unsettled AND (m.state = 'sent' OR m.state = 'waiting' AND coalesce(job.allowance, 1) > 0)
    ORDER BY m.ordinal LIMIT 1;
    IF NOT FOUND THEN
        outcome := CASE WHEN first_unsettled IS NULL THEN 'ended' ELSE 'paused' END;
        UPDATE ops.job AS j SET worker = NULL, worker_until = NULL, hindrance = '', ended_at = CASE outcome WHEN 'ended' THEN clock_timestamp() END,
            state = CASE WHEN outcome = 'paused' THEN 'paused' WHEN j.state = 'cancelling' THEN 'cancelled' ELSE 'done' END
        WHERE j.id = of_job;
        PERFORM ops.record_audit(who, 'end', format('deadLetterJobs/%s', j.id), j.apply_reason, 'DONE', format(
            '%s: %s applied, %s discarded, %s failed again, %s gone, %s refused, %s cancelled of %s', j.state, j.applied, j.discarded, j.failed_again,
            j.gone, j.refused, j.cancelled, j.members))
        FROM ops.job AS j WHERE j.id = of_job;
        RETURN;
    END IF;
    WITH chosen AS (
        SELECT m.ordinal, m.state = 'sent' AS resent, l.topic, l.partition, l.record_offset
        FROM ops.job_member AS m JOIN ops.dead_letter AS l ON l.id = m.letter_id
        WHERE m.job_id = of_job AND m.ordinal >= first_unsettled AND l.consumer_group = next_members.consumer_group
            AND (m.state = 'sent' OR m.state = 'waiting' AND coalesce(job.allowance, 1) > 0)
        ORDER BY m.ordinal
        LIMIT least(most, CASE WHEN job.allowance IS NULL THEN most ELSE greatest(job.allowance + job.sent, 1) END)
    ), marked AS (
        UPDATE ops.job_member AS m SET state = 'sent', changed_at = clock_timestamp()
        FROM chosen AS c WHERE m.job_id = of_job AND m.ordinal = c.ordinal AND NOT c.resent
        RETURNING m.ordinal
    )
    SELECT 'members', array_agg(c.ordinal ORDER BY c.ordinal), array_agg(c.topic ORDER BY c.ordinal), array_agg(c.partition ORDER BY c.ordinal),
        array_agg(c.record_offset ORDER BY c.ordinal), array_agg(c.resent ORDER BY c.ordinal), (SELECT count(*) FROM marked)
    INTO outcome, ordinals, topics, partitions, offsets, resent, fresh
    FROM chosen AS c;
    UPDATE ops.job AS j SET sent = j.sent + fresh, allowance = j.allowance - fresh, settled_to = first_unsettled - 1 WHERE j.id = of_job;
END
$$;

-- Writes what has become of members that were sent, and of their dead letters. `hindrance` says why others are not settled; empty where nothing keeps
-- the job from getting on. Answers false for a worker that was overtaken.
CREATE FUNCTION ops.settle_members(
    of_job bigint, worker_epoch bigint, s_ordinals bigint[], s_states text[], s_codes text[], s_reasons text[], s_records bigint[], hindered text
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM FROM ops.job AS j WHERE j.id = of_job AND j.epoch = worker_epoch FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    WITH settled AS (
        UPDATE ops.job_member AS m
        SET state = s.state, code = left(s.code, 64), reason = left(s.reason, 1000), records = s.records, changed_at = clock_timestamp()
        FROM unnest(s_ordinals, s_states, s_codes, s_reasons, s_records) AS s (ordinal, state, code, reason, records)
        WHERE m.job_id = of_job AND m.ordinal = s.ordinal AND m.state = 'sent'
        RETURNING m.letter_id, m.state, m.records, m.replay_count
    ), letters AS (
        UPDATE ops.dead_letter AS l
        SET state = CASE s.state WHEN 'applied' THEN 'replayed' WHEN 'failed_again' THEN l.state ELSE s.state END,
            state_changed_at = CASE s.state WHEN 'failed_again' THEN l.state_changed_at ELSE clock_timestamp() END,
            replay_count = greatest(l.replay_count, s.replay_count + CASE s.state WHEN 'failed_again' THEN 1 ELSE 0 END),
            -- What the dead-letter topic said of the same failure before has counted already.
            revision = l.revision + CASE WHEN s.state <> 'failed_again' OR l.replay_count <= s.replay_count THEN 1 ELSE 0 END
        FROM settled AS s
        WHERE l.id = s.letter_id AND s.state <> 'refused'
    )
    UPDATE ops.job AS j SET
        sent = j.sent - c.settled, applied = j.applied + c.applied, discarded = j.discarded + c.discarded, failed_again = j.failed_again + c.failed_again,
        gone = j.gone + c.gone, refused = j.refused + c.refused, records = j.records + c.records, hindrance = left(hindered, 1000)
    FROM (
        SELECT count(*) AS settled, count(*) FILTER (WHERE s.state = 'applied') AS applied,
            count(*) FILTER (WHERE s.state = 'discarded') AS discarded, count(*) FILTER (WHERE s.state = 'failed_again') AS failed_again,
            count(*) FILTER (WHERE s.state = 'gone') AS gone, count(*) FILTER (WHERE s.state = 'refused') AS refused,
            coalesce(sum(s.records), 0) AS records
        FROM settled AS s
    ) AS c
    WHERE j.id = of_job;
    RETURN true;
END
$$;

GRANT EXECUTE ON FUNCTION
    ops.plan_job(
        text, text[], text[], integer[], bigint[], bigint, text, text, text, text, text, timestamptz, timestamptz, integer, bigint, text, text, text, text
    ),
    ops.apply_job(bigint, integer, bigint, boolean, text, text, text), ops.cancel_job(bigint, text, text),
    ops.note_rehearsal(bigint, text, text, text), ops.take_job(text, bigint), ops.renew_job(bigint, bigint, bigint),
    ops.next_members(bigint, bigint, bigint, text),
    ops.settle_members(bigint, bigint, bigint[], text[], text[], text[], bigint[], text)
    TO idempo_dlq_admin;
