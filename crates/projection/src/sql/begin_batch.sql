-- A read model can be built again: a crash of the server may lose its last batches, position and rows together.
SET LOCAL synchronous_commit = off;
-- The rows of a batch are looked up by their keys. The planner would read whole tables while it believes them to be small, and go on doing so in a
-- cached plan when they have grown.
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL enable_seqscan = off;
