COPY (SELECT stream_id, version, envelope FROM es.events) TO STDOUT (FORMAT CHOSEN_FORMAT)
