DROP TRIGGER forgotten ON inventory_g1.item_events;
DROP FUNCTION public.refuse();
