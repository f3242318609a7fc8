-- Where in Kafka to look for what the relay has sent beyond the cursor: every record of such a row is in one of these stretches of its
-- partition. The stretch whose end is NULL goes to the end of the log and begins behind the last record that the cursor has; a partition that
-- has none was never sent to. Stretches with an end were left by relays that ended in their work, until the cursor is behind all they can
-- have sent. The n-th element of each array is for the n-th stretch.
ALTER TABLE outbox.cursor
    ADD COLUMN tail_topics smallint[] NOT NULL DEFAULT '{}',
    ADD COLUMN tail_partitions integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN tail_offsets bigint[] NOT NULL DEFAULT '{}',
    ADD COLUMN tail_ends bigint[] NOT NULL DEFAULT '{}',
    ADD CONSTRAINT cursor_tails_are_whole CHECK (
        cardinality(tail_topics) = cardinality(tail_partitions) AND cardinality(tail_topics) = cardinality(tail_offsets)
        AND cardinality(tail_topics) = cardinality(tail_ends)
    );

-- A topic ends before what was acknowledged in it, and people have decided to go on without what is gone: the outbox begins again at the ends
-- of the logs. What consumers lack by that they have to be given from the event store. The relay that holds the outbox looks here while it is
-- blocked for that; nothing else is to be stopped.
CREATE FUNCTION outbox.accept_lost_records(caller text, why text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    UPDATE outbox.cursor SET tail_topics = '{}', tail_partitions = '{}', tail_offsets = '{}', tail_ends = '{}';
    PERFORM outbox.record_audit(caller, 'accept_lost_records', 'outbox', why, 'DONE', '');
END
$$;
REVOKE ALL ON FUNCTION outbox.accept_lost_records FROM PUBLIC;
GRANT EXECUTE ON FUNCTION outbox.accept_lost_records TO idempo_relay_group;
