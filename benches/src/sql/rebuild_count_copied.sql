SELECT count(*) FROM public.copied
