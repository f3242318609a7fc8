SELECT
    m.number, m.session, m.epoch, m.by_holder, m.s1::text AS s1, pg_snapshot_xmax(m.s1)::text::bigint AS s1_xmax,
    coalesce(m.s2::text, '') AS s2, m.acked_seq
FROM chaos.cursor_moves AS m ORDER BY m.number
