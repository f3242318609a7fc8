-- What a projector reads to build a generation anew: the events, and how many there are of each stream. Nothing else, and only to read.
GRANT USAGE ON SCHEMA es TO idempo_rebuilder;
GRANT SELECT ON es.events, es.streams TO idempo_rebuilder;
