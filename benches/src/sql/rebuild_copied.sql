-- Where psql copies the events to: the columns that a rebuild reads.
CREATE TABLE public.copied (stream_id uuid NOT NULL, version bigint NOT NULL, envelope bytea NOT NULL)
