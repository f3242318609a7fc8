-- What became of dead letters at their consumers, where no job of ours has it from them: consumers are asked about those that are open.

CREATE INDEX dead_letter_open_of_consumer ON ops.dead_letter (consumer_group, id) WHERE state = 'open';

-- How far a consumer group was asked about its open dead letters: those up to number `behind`, where a round did not come to their end. From due_at on
-- it may be asked again. It spares consumers being asked by every process, and no more: what is written down twice is so once.
CREATE TABLE ops.inquiry (
    consumer_group text PRIMARY KEY,
    behind bigint NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Takes a consumer group that has open dead letters and may be asked about them; for as long as the interval nobody else takes it. No row where
-- there is none.
CREATE FUNCTION ops.take_inquiry(interval_ms bigint) RETURNS TABLE (consumer_group text, behind bigint) LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    -- The groups are few, and the dead letters many: from one group to the next.
    WITH RECURSIVE known AS (
        (SELECT l.consumer_group FROM ops.dead_letter AS l WHERE l.state = 'open' ORDER BY l.consumer_group LIMIT 1)
        UNION ALL
        SELECT (
            SELECT l.consumer_group FROM ops.dead_letter AS l WHERE l.state = 'open' AND l.consumer_group > k.consumer_group
            ORDER BY l.consumer_group LIMIT 1
        )
        FROM known AS k WHERE k.consumer_group IS NOT NULL
    )
    INSERT INTO ops.inquiry (consumer_group) SELECT k.consumer_group FROM known AS k WHERE k.consumer_group IS NOT NULL
    ON CONFLICT DO NOTHING;
    DELETE FROM ops.inquiry AS i
    WHERE i.due_at <= clock_timestamp()
        AND NOT EXISTS (SELECT FROM ops.dead_letter AS l WHERE l.state = 'open' AND l.consumer_group = i.consumer_group);
    RETURN QUERY
    UPDATE ops.inquiry AS i SET due_at = clock_timestamp() + interval_ms * interval '1 millisecond'
    WHERE i.consumer_group = (
        SELECT f.consumer_group FROM ops.inquiry AS f WHERE f.due_at <= clock_timestamp() ORDER BY f.due_at LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING i.consumer_group, i.behind;
END
$$;

-- Notes how far a consumer group was asked: up to this number, or 0 where it was asked about all.
CREATE FUNCTION ops.move_inquiry(of_group text, behind_number bigint) RETURNS void LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
    UPDATE ops.inquiry AS i SET behind = behind_number WHERE i.consumer_group = of_group
$$;

-- Writes down how dead letters ended, as their consumer says that was asked at `asked`: of each its number, its revision and last failure as they were
-- then, what it is from here on, when that came to be (null where the consumer does not know), and what stands in the audit. One that has changed
-- since, or is in a job by now, stays as it is. Gives how many came to be what.
-- Who begins a job waits, or is waited for, so a dead letter that is in none stays in none until the commit. Rows are locked in the order in which
-- those who read the topics lock them.
-- state_changed_at is when it ended, and never later than `asked`: whatever fails after that is open again, by the rule of put_letters.
CREATE FUNCTION ops.settle_ended(
    asked timestamptz, ids bigint[], revisions bigint[], failed_at timestamptz[], states text[], ended_at timestamptz[], details text[], who text, why text
) RETURNS TABLE (state text, letters bigint) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM ops.one_at_a_time();
    PERFORM FROM ops.dead_letter AS l WHERE l.id = ANY (settle_ended.ids)
    ORDER BY l.consumer_group, l.topic, l.partition, l.record_offset FOR NO KEY UPDATE;
    RETURN QUERY
    WITH settled AS (
        UPDATE ops.dead_letter AS l
        SET state = a.state, state_changed_at = least(a.ended_at, asked), revision = l.revision + 1
        FROM unnest(ids, revisions, failed_at, states, ended_at, details) AS a (id, revision, failed_at, state, ended_at, detail)
        WHERE l.id = a.id AND l.state = 'open' AND l.revision = a.revision AND l.last_failed_at = a.failed_at AND ops.job_of(l.id) IS NULL
        RETURNING l.state, ops.letter_name(l) AS name, a.detail
    ), noted AS (
        INSERT INTO ops.audit (caller, action, target, reason, outcome, detail)
        SELECT left(who, 64), 'reconcile', left(s.name, 1000), left(why, 1000), 'DONE', left(s.detail, 1000) FROM settled AS s ORDER BY s.name
    )
    SELECT s.state, count(*) FROM settled AS s GROUP BY s.state;
END
$$;

GRANT SELECT ON ops.inquiry TO idempo_dlq_admin;
GRANT EXECUTE ON FUNCTION
    ops.take_inquiry(bigint), ops.move_inquiry(text, bigint),
    ops.settle_ended(timestamptz, bigint[], bigint[], timestamptz[], text[], timestamptz[], text[], text, text)
    TO idempo_dlq_admin;
