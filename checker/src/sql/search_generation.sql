SELECT set_config('search_path', concat($1::text, ', projection'), true) AS search_path
