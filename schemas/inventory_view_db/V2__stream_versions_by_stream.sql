-- A generation has as many rows as there are streams, so it tells almost nothing apart: the stream comes first in the index.
ALTER TABLE projection.stream_version DROP CONSTRAINT stream_version_pkey;
ALTER TABLE projection.stream_version ADD PRIMARY KEY (stream_id, generation);
