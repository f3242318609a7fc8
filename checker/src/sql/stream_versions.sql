-- The last version of each stream in the live generation.
SELECT v.stream_id, v.version FROM projection.stream_version AS v WHERE v.generation = $1
