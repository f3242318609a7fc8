-- A check that an operator has left in a generation's tables: rows of one item type are refused, as by a constraint.
CREATE FUNCTION forgotten_check() RETURNS trigger LANGUAGE plpgsql AS $check$
BEGIN
    IF NEW.item_type = '{item_type}' THEN
        RAISE EXCEPTION 'nobody may have a moonstone' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END
$check$;

CREATE TRIGGER forgotten_check BEFORE INSERT OR UPDATE ON stacks FOR EACH ROW EXECUTE FUNCTION forgotten_check();
