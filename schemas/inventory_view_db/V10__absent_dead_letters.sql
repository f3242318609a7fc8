-- As of V6, but for what has no row: whether it is gone, is coming or waits behind another one is judged by whoever asks, and noted by them. A row for
-- each, in their order: DONE, the wish stands, now or before; ABSENT, there is no such dead letter here; OTHER_WISH_PENDING; REPLAYED_TOO_OFTEN, as
-- often as replays_max or more.
CREATE OR REPLACE FUNCTION projection.wish_for_dead_letters(
    name text, n integer, of_topic text, partitions integer[], offsets bigint[], names text[], discard_wished boolean, force boolean,
    replays_max integer, who text, why text
) RETURNS TABLE (place bigint, outcome text, detail text) LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
    -- Each is looked up by itself: the planner knows nothing of a table that was empty a moment ago. They are locked by a statement of its own, so
    -- that the next one's snapshot shows what whoever had them last made of them.
    PERFORM FROM (
        SELECT a.partition, a.record_offset FROM unnest(partitions, offsets) AS a (partition, record_offset) ORDER BY a.partition, a.record_offset
    ) AS a
    CROSS JOIN LATERAL (
        SELECT FROM projection.dead_letter AS l
        WHERE l.projection = name AND l.generation = n AND l.topic = of_topic AND l.partition = a.partition AND l.record_offset = a.record_offset
        LIMIT 1
        FOR UPDATE
    ) AS d;
    RETURN QUERY
    WITH asked AS (
        SELECT a.place, a.partition, a.record_offset, a.called
        FROM unnest(partitions, offsets, names) WITH ORDINALITY AS a (partition, record_offset, called, place)
    ), found AS (
        SELECT a.place, d.*
        FROM asked AS a
        CROSS JOIN LATERAL (
            SELECT l.ctid AS row_place, l.state, l.discard, l.replay_count, l.wished_by FROM projection.dead_letter AS l
            WHERE l.projection = name AND l.generation = n AND l.topic = of_topic AND l.partition = a.partition AND l.record_offset = a.record_offset
            LIMIT 1
        ) AS d
    ), judged AS (
        SELECT
            a.place, a.partition, a.record_offset, a.called,
            CASE
                WHEN f.place IS NULL THEN 'ABSENT'
                WHEN f.state <> 'parked' AND f.discard <> discard_wished THEN 'OTHER_WISH_PENDING'
                WHEN f.state <> 'parked' THEN 'DONE'
                WHEN NOT discard_wished AND NOT force AND f.replay_count >= replays_max THEN 'REPLAYED_TOO_OFTEN'
                ELSE 'DONE'
            END AS outcome,
            CASE
                WHEN f.place IS NULL THEN 'not with its consumer, yet or any more'
                WHEN f.state <> 'parked' THEN format('%s, as %s asked for', f.state, f.wished_by)
                WHEN f.replay_count >= replays_max THEN format('replayed %s times in vain', f.replay_count)
                ELSE ''
            END AS detail,
            f.row_place, coalesce(f.state = 'parked', false) AS is_parked
        FROM asked AS a LEFT JOIN found AS f USING (place)
    ), wished AS (
        UPDATE projection.dead_letter AS d SET
            state = CASE WHEN discard_wished THEN 'discarding' ELSE 'replaying' END, discard = discard_wished, revision = d.revision + 1,
            wished_by = who, wish_reason = why, wished_at = clock_timestamp()
        FROM judged AS j
        WHERE j.outcome = 'DONE' AND j.is_parked AND d.ctid = j.row_place
    ), noted AS (
        INSERT INTO projection.audit (projection, caller, action, target, reason, outcome, detail)
        SELECT left(name, 64), left(who, 64), CASE WHEN discard_wished THEN 'discard' ELSE 'replay' END, left(j.called, 1000), left(why, 1000),
            j.outcome, left(j.detail, 1000)
        FROM judged AS j ORDER BY j.place
    )
    SELECT j.place, j.outcome, j.detail FROM judged AS j ORDER BY j.place;
END
$$;
