SELECT
    (SELECT count(*) FROM es.events WHERE stream_id IN (SELECT stream_id FROM es.streams)) AS events,
    (SELECT count(*) FROM es.command_dedup) AS answers,
    (
        SELECT count(*) FROM es.streams AS s
        WHERE s.version <> (SELECT count(*) FROM es.events AS e WHERE e.stream_id = s.stream_id)
            OR s.version <> (SELECT max(e.version) FROM es.events AS e WHERE e.stream_id = s.stream_id)
    ) AS gaps
