-- How far a rebuild is: parts and events in all, and events of the last ten seconds with how long it took to read them; then where its consumer
-- began and is to come to, and for how long it has been at it.
SELECT
    count(b.bucket) AS buckets, coalesce(sum(b.events), 0)::bigint AS events,
    coalesce(sum(b.events) FILTER (WHERE b.rebuilt_at > clock_timestamp() - interval '10 s'), 0)::bigint AS lately,
    least(10000, greatest(1, extract(epoch FROM clock_timestamp() - r.phase_at) * 1000))::bigint AS lately_ms,
    r.seam_offsets, r.target_offsets, greatest(1, extract(epoch FROM clock_timestamp() - r.phase_at) * 1000)::bigint AS phase_ms,
    (SELECT t.holder FROM turn AS t WHERE t.projection = r.projection AND t.until > clock_timestamp()) AS holder
FROM rebuild AS r
LEFT JOIN rebuilt_bucket AS b USING (projection, generation)
WHERE r.projection = $1 AND r.generation = $2
GROUP BY r.projection, r.generation
