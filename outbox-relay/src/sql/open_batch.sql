-- One row with this statement's own snapshot and time, then the first page of what it shows beyond $1, in seq order.
-- $1 the snapshot that is done, $2 its xids in progress, $3 their floors, $4 the floor of later xids, $5 the page's rows.
-- The three tables are joined bare and filtered outside: only so does the planner merge their indexes instead of sorting the whole batch.
WITH floor AS MATERIALIZED (
    SELECT least($4::bigint, min(c.floor)) AS seq
    FROM unnest($2::xid8[], $3::bigint[]) AS c (xid, floor)
    WHERE pg_visible_in_snapshot(c.xid, pg_current_snapshot())
)
SELECT
    pg_current_snapshot() AS snapshot, NULL::bigint AS seq, clock_timestamp() AS recorded_at,
    NULL::smallint AS topic, NULL::uuid AS key, NULL::bytea AS headers, NULL::bytea AS payload
UNION ALL (
    SELECT NULL::pg_snapshot, o.seq, o.recorded_at, o.topic, o.key, o.headers, o.payload
    FROM (SELECT * FROM outbox.r0 UNION ALL SELECT * FROM outbox.r1 UNION ALL SELECT * FROM outbox.r2) AS o
    WHERE o.seq > (SELECT f.seq FROM floor AS f) AND NOT pg_visible_in_snapshot(o.xid, $1::pg_snapshot)
    ORDER BY o.seq
    LIMIT $5::bigint
)
