-- A worker asks consumers about some members while others are under way: a consumer's transaction waits for the disk, and so does what is written here.

-- Gives members behind ordinal `beyond` that were not sent, all of one consumer group, which are sent from then on. outcome: members; none, where there
-- are none; lost, for a worker that was overtaken. What stands as sent is not among them, and a job does not end by this: ops.next_members sees to both,
-- when nothing is under way.
-- As there, the planner is told how to look, because it knows nothing of members that were just written.
CREATE FUNCTION ops.further_members(
    of_job bigint, worker_epoch bigint, most bigint, beyond bigint, OUT outcome text, OUT consumer_group text, OUT ordinals bigint[], OUT topics text[],
    OUT partitions integer[], OUT offsets bigint[], OUT resent boolean[]
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    job record;
    fresh bigint;
BEGIN
    SELECT j.state, j.allowance INTO job FROM ops.job AS j WHERE j.id = of_job AND j.epoch = worker_epoch FOR UPDATE;
    IF NOT FOUND OR job.state NOT IN ('applying', 'cancelling') THEN
        outcome := 'lost';
        RETURN;
    END IF;
    outcome := 'none';
    IF coalesce(job.allowance, 1) <= 0 THEN
        RETURN;
    END IF;
    SELECT l.consumer_group INTO consumer_group
    FROM ops.job_member AS m JOIN ops.dead_letter AS l ON l.id = m.letter_id
    WHERE m.job_id = of_job AND m.ordinal > beyond AND m.state = 'waiting'
    ORDER BY m.ordinal LIMIT 1;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    WITH chosen AS (
        SELECT m.ordinal, l.topic, l.partition, l.record_offset
        FROM ops.job_member AS m JOIN ops.dead_letter AS l ON l.id = m.letter_id
        WHERE m.job_id = of_job AND m.ordinal > beyond AND m.state = 'waiting' AND l.consumer_group = further_members.consumer_group
        ORDER BY m.ordinal
        LIMIT least(most, coalesce(job.allowance, most))
    ), marked AS (
        UPDATE ops.job_member AS m SET state = 'sent', changed_at = clock_timestamp()
        FROM chosen AS c WHERE m.job_id = of_job AND m.ordinal = c.ordinal
        RETURNING m.ordinal
    )
    SELECT 'members', array_agg(c.ordinal ORDER BY c.ordinal), array_agg(c.topic ORDER BY c.ordinal), array_agg(c.partition ORDER BY c.ordinal),
        array_agg(c.record_offset ORDER BY c.ordinal), array_agg(false), (SELECT count(*) FROM marked)
    INTO outcome, ordinals, topics, partitions, offsets, resent, fresh
    FROM chosen AS c;
    UPDATE ops.job AS j SET sent = j.sent + fresh, allowance = j.allowance - fresh WHERE j.id = of_job;
END
$$;

-- As of V3, but that each member is looked up by itself: the planner takes it that hardly any member stands as sent, and would hold all that do against
-- all that are settled.
CREATE OR REPLACE FUNCTION ops.settle_members(
    of_job bigint, worker_epoch bigint, s_ordinals bigint[], s_states text[], s_codes text[], s_reasons text[], s_records bigint[], hindered text
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    PERFORM FROM ops.job AS j WHERE j.id = of_job AND j.epoch = worker_epoch FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    WITH settled AS (
        UPDATE ops.job_member AS m
        SET state = s.state, code = left(s.code, 64), reason = left(s.reason, 1000), records = s.records, changed_at = clock_timestamp()
        FROM unnest(s_ordinals, s_states, s_codes, s_reasons, s_records) AS s (ordinal, state, code, reason, records)
        -- Nobody moves a member of the job meanwhile: its row is held.
        CROSS JOIN LATERAL (SELECT f.ctid AS place FROM ops.job_member AS f WHERE f.job_id = of_job AND f.ordinal = s.ordinal LIMIT 1) AS q
        WHERE m.ctid = q.place AND m.state = 'sent'
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

GRANT EXECUTE ON FUNCTION ops.further_members(bigint, bigint, bigint, bigint) TO idempo_dlq_admin;
