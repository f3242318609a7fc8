-- How far the live generations of the projections have read their topics.
SELECT c.projection, c.generation, c.topic, c.partition, c.next_offset
FROM projection.checkpoint AS c
JOIN projection.projection AS p ON p.name = c.projection AND p.live_generation = c.generation
