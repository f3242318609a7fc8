DROP TRIGGER forgotten_check ON stacks;
DROP FUNCTION forgotten_check();
