CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'forgotten'; END $$;
CREATE TRIGGER forgotten BEFORE INSERT ON inventory_g1.item_events FOR EACH ROW
WHEN (NEW.player_id = ANY ('{{players}}'::uuid[])) EXECUTE FUNCTION public.refuse();
