-- The last migration of a history that has run; null where the history is not there. A table's name can't be a parameter, but in query_to_xml.
SELECT
    CASE
        WHEN to_regclass(format('public.%I', $1::text)) IS NULL THEN NULL
        ELSE (xpath('/row/last/text()', query_to_xml(format('SELECT max(version) AS last FROM public.%I', $1::text), false, true, '')))[1]::text
    END AS last
