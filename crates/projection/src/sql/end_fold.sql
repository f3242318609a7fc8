SELECT projection.end_fold(), set_config('search_path', 'projection', true)
