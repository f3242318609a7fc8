SELECT
    g.generation, g.state, g.code_hash, g.created_at, g.live_at, coalesce(g.drop_at <= clock_timestamp(), false) AS drop_due,
    r.source, r.phase, r.caller, r.reason, r.workers, r.events_per_second_max, r.buckets, r.events_total, r.started_at, r.ready_at, r.failure_code,
    r.failure,
    v.state AS verdict, v.against, v.compared_with, v.caller AS verified_by, v.rows, v.buckets AS compared_buckets, v.buckets_different, v.live_buckets_different,
    v.started_at AS verification_started_at, v.ended_at, v.failure AS verification_failure
FROM generation AS g
LEFT JOIN rebuild AS r USING (projection, generation)
LEFT JOIN verification AS v USING (projection, generation)
WHERE g.projection = $1
ORDER BY g.generation
