-- How old the backlog of an outbox is, for whoever writes into it: a service asks its own database, so it learns the age also when every relay is
-- dead. It is asked once a second, so it may read neither the backlog nor what was acknowledged: a look reads a few pages, however many rows there
-- are and whatever transaction is held open. It reads more only while nobody moves the cursor past a long transaction that has ended: the rows since
-- that one began.

-- A number below every row that is committed and that `seen` does not show, `seen` being s1 or s2 of the cursor. Rows that `seen` does not show
-- are of transactions from its xmax on, or of those it lists as in progress. Of the latter only those that have ended count: one that is held open
-- has no committed row, so its floor, which may be hours old, holds nothing back.
-- A mark holds for every transaction at or above its xid, whenever it was read; so of several that hold, the highest floor holds.
CREATE FUNCTION outbox.floor_beyond(seen pg_snapshot) RETURNS bigint LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
    WITH marks AS (
        SELECT m.xid, m.floor FROM outbox.cursor AS c, unnest(c.mark_xids, c.mark_floors) AS m (xid, floor)
        UNION ALL
        SELECT c.s2_mark_xid, c.s2_mark_floor FROM outbox.cursor AS c WHERE c.s2 IS NOT NULL
    ), known AS (
        SELECT k.xid, k.floor FROM outbox.cursor AS c, ROWS FROM (pg_snapshot_xip(c.s1), unnest(c.xip_floors)) AS k (xid, floor)
    ), unseen AS (
        SELECT pg_snapshot_xmax(seen) AS xid
        UNION ALL
        SELECT x.xid FROM pg_snapshot_xip(seen) AS x (xid) WHERE pg_visible_in_snapshot(x.xid, pg_current_snapshot())
    )
    SELECT min(coalesce(
        (SELECT k.floor FROM known AS k WHERE k.xid = u.xid),
        (SELECT max(m.floor) FROM marks AS m WHERE m.xid <= u.xid),
        0
    ))
    FROM unseen AS u
$$;

-- When the first row with a number above `above`, at most `at_most`, that `seen` does not show was written; NULL where there is none. The three
-- tables are read in the order of their indexes, and no further than to that row: no statistics of theirs can make the planner read or sort more.
CREATE FUNCTION outbox.first_unseen(above bigint, at_most bigint, seen pg_snapshot) RETURNS timestamptz LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
    SELECT o.recorded_at
    FROM (SELECT * FROM outbox.r0 UNION ALL SELECT * FROM outbox.r1 UNION ALL SELECT * FROM outbox.r2) AS o
    WHERE o.seq > above AND o.seq <= at_most AND NOT pg_visible_in_snapshot(o.xid, seen)
    ORDER BY o.seq
    LIMIT 1
$$;

-- How long the oldest row has waited that is committed and not known to be in Kafka, in milliseconds from the start of the transaction that wrote
-- it; 0 where there is none.
--
-- Above acked_seq every row that s1 does not show is such a row; at or below it, those that s2 does not show either. The first of each of the two
-- are looked up, so what was acknowledged of a batch that is being worked on is not read again and again.
CREATE FUNCTION outbox.backlog_age_ms() RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s1 pg_snapshot;
    s2 pg_snapshot;
    acked_seq bigint;
    oldest timestamptz;
BEGIN
    SELECT c.s1, c.s2, c.acked_seq INTO STRICT s1, s2, acked_seq FROM outbox.cursor AS c;
    IF s2 IS NULL THEN
        oldest := outbox.first_unseen(outbox.floor_beyond(s1), 9223372036854775807, s1);
    ELSE
        oldest := least(
            outbox.first_unseen(greatest(outbox.floor_beyond(s1), acked_seq), 9223372036854775807, s1),
            outbox.first_unseen(outbox.floor_beyond(s2), acked_seq, s2)
        );
    END IF;
    RETURN coalesce(greatest(extract(epoch FROM clock_timestamp() - oldest) * 1000, 0), 0)::bigint;
END
$$;

REVOKE ALL ON FUNCTION outbox.floor_beyond, outbox.first_unseen, outbox.backlog_age_ms FROM PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.backlog_age_ms TO idempo_command;
