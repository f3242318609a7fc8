-- Until the end of the transaction names are those of generation $2 of projection $1.
SELECT set_config('search_path', format('%I, projection', $1::text || '_g' || $2::integer), true)
