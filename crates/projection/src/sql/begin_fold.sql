SELECT begin_fold($1)
