SELECT avg(octet_length(envelope))::integer FROM es.events
