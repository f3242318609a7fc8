COPY fold_beyond (stream_id, version) FROM STDIN (FORMAT binary)
