-- The last version of each stream in the live generation.
SELECT v.stream_id, v.version FROM projection.stream_versions('inventory', $1) AS v
