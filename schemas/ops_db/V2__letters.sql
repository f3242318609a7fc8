-- How dead letters come to be known, and what is done with one by itself.

-- Takes a partition of a dead-letter topic: whoever had it before writes nothing any more.
CREATE FUNCTION ops.take_partition(of_topic text, of_partition integer, OUT epoch bigint, OUT next_offset bigint) LANGUAGE sql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO ops.position AS p (topic, partition, epoch, next_offset) VALUES (of_topic, of_partition, 1, 0)
    ON CONFLICT (topic, partition) DO UPDATE SET epoch = p.epoch + 1
    RETURNING p.epoch, p.next_offset
$$;

-- Writes dead letters, each of which is in `letters` once; gives how many were not known. The state of new ones is open, or export_only, which leaves
-- those that are known as they are.
-- Of one that is known, the last error is replaced where this is a later one; the first error and the bytes stay. One that was settled and has failed
-- since is open again: its consumer has it. Those that say nothing new change nothing, so what was produced twice is here once.
-- Nobody can tell the planner how many letters there are in JSON: by nested loops, thousands would be held against thousands.
CREATE FUNCTION ops.put_letters(letters jsonb) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET enable_nestloop = off AS $$
DECLARE
    added bigint;
BEGIN
    INSERT INTO ops.dead_letter_group (code, event_type, topic, consumer_group, disposition)
    SELECT DISTINCT n.code, n.event_type, n.topic, n.consumer_group, n.disposition
    FROM jsonb_to_recordset(letters) AS n (code text, event_type text, topic text, consumer_group text, disposition text)
    WHERE NOT EXISTS (
        SELECT FROM ops.dead_letter_group AS g
        WHERE g.code = n.code AND g.event_type = n.event_type AND g.topic = n.topic AND g.consumer_group = n.consumer_group
            AND g.disposition = n.disposition
    )
    ON CONFLICT DO NOTHING;
    WITH given AS (
        SELECT n.*, g.id AS group_id
        FROM jsonb_to_recordset(letters) AS n (
            consumer_group text, topic text, partition integer, record_offset bigint, state text, code text, event_type text, disposition text, reason text,
            stage text, first_code text, first_reason text, attempts integer, replay_count integer, event_id uuid, stream_id uuid, version bigint,
            key_text text, key text, value text, header_keys jsonb, header_values jsonb, recorded_at timestamptz, first_failed_at timestamptz,
            last_failed_at timestamptz, app_version text, traceparent text
        )
        JOIN ops.dead_letter_group AS g USING (code, event_type, topic, consumer_group, disposition)
    ), put AS (
        INSERT INTO ops.dead_letter AS l (
            consumer_group, topic, partition, record_offset, state, group_id, reason, stage, first_code, first_reason, attempts, replay_count,
            event_id, stream_id, version, key_text, has_key, value_bytes, tombstone, recorded_at, first_failed_at, last_failed_at, app_version,
            traceparent
        )
        SELECT n.consumer_group, n.topic, n.partition, n.record_offset, n.state, n.group_id, n.reason, n.stage, n.first_code, n.first_reason,
            n.attempts, n.replay_count, n.event_id, n.stream_id, n.version, n.key_text, n.key IS NOT NULL,
            coalesce(octet_length(decode(n.value, 'base64')), 0), n.value IS NULL, n.recorded_at, n.first_failed_at, n.last_failed_at, n.app_version,
            n.traceparent
        FROM given AS n
        ORDER BY n.consumer_group, n.topic, n.partition, n.record_offset
        ON CONFLICT (consumer_group, topic, partition, record_offset) DO UPDATE SET
            group_id = excluded.group_id, reason = excluded.reason, stage = excluded.stage, attempts = excluded.attempts,
            replay_count = greatest(l.replay_count, excluded.replay_count), last_failed_at = excluded.last_failed_at,
            app_version = excluded.app_version,
            state = CASE WHEN excluded.last_failed_at > l.state_changed_at THEN 'open' ELSE l.state END,
            state_changed_at =
                CASE WHEN l.state <> 'open' AND excluded.last_failed_at > l.state_changed_at THEN clock_timestamp() ELSE l.state_changed_at END,
            revision = l.revision + CASE
                WHEN excluded.replay_count > l.replay_count OR l.state <> 'open' AND excluded.last_failed_at > l.state_changed_at THEN 1 ELSE 0
            END
        WHERE excluded.state = 'open' AND excluded.last_failed_at > l.last_failed_at
        RETURNING l.id, l.consumer_group, l.topic, l.partition, l.record_offset
    )
    INSERT INTO ops.dead_letter_record (id, key, value, header_keys, header_values)
    SELECT p.id, decode(n.key, 'base64'), decode(n.value, 'base64'),
        (SELECT coalesce(array_agg(h.text ORDER BY h.at), '{}') FROM jsonb_array_elements_text(n.header_keys) WITH ORDINALITY AS h (text, at)),
        (
            SELECT coalesce(array_agg(decode(h.text, 'base64') ORDER BY h.at), '{}')
            FROM jsonb_array_elements_text(n.header_values) WITH ORDINALITY AS h (text, at)
        )
    FROM put AS p JOIN given AS n USING (consumer_group, topic, partition, record_offset)
    ON CONFLICT (id) DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    RETURN added;
END
$$;

-- Writes what was read of a partition from one offset to another. Answers false, and has written nothing, for a process that was overtaken.
CREATE FUNCTION ops.take_in(of_topic text, of_partition integer, holder_epoch bigint, from_offset bigint, to_offset bigint, letters text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE ops.position AS p SET next_offset = to_offset
    WHERE p.topic = of_topic AND p.partition = of_partition AND p.epoch = holder_epoch AND p.next_offset = from_offset;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM ops.put_letters(letters::jsonb);
    RETURN true;
END
$$;

-- Moves a position to where the log is, which has lost its end or its beginning, or was made anew. What is read again is known already.
CREATE FUNCTION ops.reposition(of_topic text, of_partition integer, holder_epoch bigint, from_offset bigint, to_offset bigint, who text, why text)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE ops.position AS p SET next_offset = to_offset
    WHERE p.topic = of_topic AND p.partition = of_partition AND p.epoch = holder_epoch AND p.next_offset = from_offset;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM ops.record_audit(
        who, 'reposition', format('%s/%s', of_topic, of_partition), why, 'DONE', format('from offset %s to offset %s', from_offset, to_offset)
    );
    RETURN true;
END
$$;

-- The job that has a dead letter in hand; null where none has.
CREATE FUNCTION ops.job_of(letter bigint) RETURNS bigint LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT m.job_id FROM ops.job_member AS m JOIN ops.job AS j ON j.id = m.job_id
    WHERE m.letter_id = letter AND m.state IN ('waiting', 'sent') AND j.state IN ('applying', 'cancelling')
    LIMIT 1
$$;

-- A dead letter with what it is counted by.
CREATE VIEW ops.letter AS
SELECT l.*, g.code, g.event_type, g.disposition, ops.job_of(l.id) AS job_id
FROM ops.dead_letter AS l JOIN ops.dead_letter_group AS g ON g.id = l.group_id;

-- The dead letters of some identities, in their order; id is null where there is none.
CREATE FUNCTION ops.letters_named(groups text[], topics text[], partitions integer[], offsets bigint[])
RETURNS TABLE (at bigint, name text, id bigint, state text) LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT n.at, format('deadLetters/%s.%s.%s.%s', n.consumer_group, n.topic, n.partition, n.record_offset), l.id, l.state
    FROM unnest(groups, topics, partitions, offsets) WITH ORDINALITY AS n (consumer_group, topic, partition, record_offset, at)
    LEFT JOIN ops.dead_letter AS l USING (consumer_group, topic, partition, record_offset)
    ORDER BY n.at
$$;

-- Whoever gives dead letters to jobs, or takes them from people's hands, does it one after the other: what was checked is so until the commit.
CREATE FUNCTION ops.one_at_a_time() RETURNS void LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    SELECT pg_advisory_xact_lock(hashtextextended('ops jobs', 0))
$$;

-- What people want restored: `held` says of each whether its consumer has the record.
CREATE FUNCTION ops.restore_letters(
    groups text[], topics text[], partitions integer[], offsets bigint[], held boolean[], target text, who text, why text,
    OUT outcome text, OUT culprit text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    restored bigint := 0;
BEGIN
    PERFORM ops.one_at_a_time();
    SELECT n.name INTO culprit FROM ops.letters_named(groups, topics, partitions, offsets) AS n WHERE n.id IS NULL LIMIT 1;
    IF FOUND THEN
        outcome := 'DEAD_LETTER_NOT_FOUND';
    ELSE
        SELECT n.name INTO culprit FROM ops.letters_named(groups, topics, partitions, offsets) AS n WHERE ops.job_of(n.id) IS NOT NULL LIMIT 1;
        IF FOUND THEN
            outcome := 'DEAD_LETTER_IN_JOB';
        ELSE
            outcome := 'DONE';
            UPDATE ops.dead_letter AS l
            SET state = n.wanted, state_changed_at = clock_timestamp(), revision = l.revision + 1
            FROM (
                SELECT m.id, CASE WHEN h.held THEN 'open' ELSE 'export_only' END AS wanted
                FROM ops.letters_named(groups, topics, partitions, offsets) AS m
                JOIN unnest(restore_letters.held) WITH ORDINALITY AS h (held, at) USING (at)
            ) AS n
            WHERE l.id = n.id AND l.state <> n.wanted;
            GET DIAGNOSTICS restored = ROW_COUNT;
        END IF;
    END IF;
    PERFORM ops.record_audit(
        who, 'restore', target, why, outcome,
        coalesce(culprit, format('%s changed, %s of those named are with their consumer', restored, (SELECT count(*) FILTER (WHERE h) FROM unnest(held) AS h)))
    );
END
$$;

-- Writes a note beside a dead letter.
CREATE FUNCTION ops.annotate_letter(of_group text, of_topic text, of_partition integer, of_offset bigint, text text, target text, who text, why text)
RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    outcome text := 'DONE';
BEGIN
    UPDATE ops.dead_letter AS l SET note = annotate_letter.text, note_caller = CASE annotate_letter.text WHEN '' THEN '' ELSE who END
    WHERE l.consumer_group = of_group AND l.topic = of_topic AND l.partition = of_partition AND l.record_offset = of_offset;
    IF NOT FOUND THEN
        outcome := 'DEAD_LETTER_NOT_FOUND';
    END IF;
    PERFORM ops.record_audit(who, 'annotate', target, why, outcome, annotate_letter.text);
    RETURN outcome;
END
$$;

-- Writes imported dead letters; gives how many were not known.
CREATE FUNCTION ops.import_letters(letters text, given bigint, who text, why text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    added bigint := ops.put_letters(letters::jsonb);
BEGIN
    PERFORM ops.record_audit(who, 'import', format('%s lines', given), why, 'DONE', format('%s are new', added));
    RETURN added;
END
$$;

-- Deletes dead letters that were settled before `before`, some at a time, and takes them out of the jobs that they were in; gives how many.
CREATE FUNCTION ops.forget_settled(before timestamptz, most integer) RETURNS bigint LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    WITH gone AS (
        DELETE FROM ops.dead_letter AS l WHERE l.id IN (
            SELECT s.id FROM ops.dead_letter AS s
            WHERE s.state IN ('replayed', 'discarded', 'gone') AND s.state_changed_at < before AND ops.job_of(s.id) IS NULL
            ORDER BY s.state_changed_at LIMIT most
        )
        RETURNING l.id
    ), left_jobs AS (
        DELETE FROM ops.job_member AS m USING gone AS g WHERE m.letter_id = g.id
    )
    SELECT count(*) FROM gone
$$;

GRANT SELECT ON ops.letter TO idempo_dlq_admin;
GRANT EXECUTE ON FUNCTION
    ops.take_partition(text, integer), ops.take_in(text, integer, bigint, bigint, bigint, text),
    ops.reposition(text, integer, bigint, bigint, bigint, text, text), ops.job_of(bigint),
    ops.letters_named(text[], text[], integer[], bigint[]),
    ops.restore_letters(text[], text[], integer[], bigint[], boolean[], text, text, text),
    ops.annotate_letter(text, text, integer, bigint, text, text, text, text), ops.import_letters(text, bigint, text, text),
    ops.forget_settled(timestamptz, integer)
    TO idempo_dlq_admin;
