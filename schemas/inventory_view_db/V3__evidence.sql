-- What shows that the topic is still the one that was read, and what a reader is told of a partition that has stopped.
--
-- last_event_id: the event in the record just before next_offset. Another one found there is another log: the topic was deleted and made anew, or a
-- broker lost its end.
-- stopped_code, stopped_reason: why the partition stands before next_offset until a person has mended the cause; null while it does not.
ALTER TABLE projection.checkpoint
    ADD COLUMN last_event_id uuid,
    ADD COLUMN stopped_code text,
    ADD COLUMN stopped_reason text;

-- The event with that version. Another one with the same version is another history of the stream.
ALTER TABLE projection.stream_version ADD COLUMN event_id uuid;
