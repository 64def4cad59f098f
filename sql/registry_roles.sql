-- Who may do what, and whom the registry's functions become while they write.
\set lr '\\x4d524c4541524e00010000000200000003000000030000000300000000000000680000000000000019c25630ebb4605a0000000000000000000000000000000000000000030000007d4901db1897f2bf779e63d886a901403c2ca3cb701ebabf0aa342e8fa8ba33f53de9dddc241893f0e231fb628f6b33f6734bf03b9faf13f563c419bc8c201c0e325105620a1983f5edbbf5b2d3e114087de6db214affc3f01535b88f26918c0'
CREATE ROLE registry_nobody;
CREATE ROLE registry_reader;
CREATE ROLE registry_maker;
GRANT millrace_user TO registry_reader;
GRANT millrace_modeler TO registry_maker;

SET ROLE registry_nobody;
SELECT classify('{1,2,3}', 'owned');
SELECT millrace.import_model('owned', 'x');
SELECT count(*) FROM millrace.models;
RESET ROLE;

SET ROLE registry_maker;
SELECT millrace.import_model('owned', :'lr', '{"labels": ["red", "green", "blue"]}');
SELECT millrace.promote_model('owned', 1);
SELECT name, version, created_by FROM millrace.models WHERE name = 'owned';
SELECT alias, set_by FROM millrace.alias_history WHERE name = 'owned';
SELECT current_user, current_setting('search_path');
-- Only functions write.
DELETE FROM millrace.models;
INSERT INTO millrace.model_aliases VALUES ('owned', 'mine', 1);
SELECT 1 FROM millrace.model_files;
CREATE TRIGGER evil AFTER INSERT ON millrace.models FOR EACH ROW EXECUTE FUNCTION millrace.models_changed();
RESET ROLE;

SET ROLE registry_reader;
SELECT (classify('{0.1, -0.1, 0.5}', 'owned')).label;
SELECT reference, aliases, created_by FROM millrace.model_versions WHERE name = 'owned';
SELECT millrace.promote_model('owned', 1, 'mine');
SELECT millrace.drop_model('owned');
SELECT millrace.model_bytes('owned');
SELECT millrace.install_models();
RESET ROLE;

-- What nobody in particular may call: nothing that has a side effect, nothing that runs a model.
SELECT p.oid::regprocedure AS open_to_all
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'millrace'
JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
WHERE d.deptype = 'e' AND p.prorettype <> 'trigger'::regtype
	AND (p.provolatile = 'v' AND p.proname ~ 'model|alias' OR p.prosrc ~ 'classif|extract|infer|class_prob') AND NOT starts_with(p.proname, 'dashboard')
	AND has_function_privilege('registry_nobody', p.oid, 'EXECUTE');

-- The owner's search_path is not the caller's: operators of a hostile schema are not used.
CREATE SCHEMA hostile;
CREATE FUNCTION hostile.stop(text, text) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''hostile as %'', current_user; END';
CREATE OPERATOR hostile.= (LEFTARG = text, RIGHTARG = text, FUNCTION = hostile.stop);
GRANT USAGE ON SCHEMA hostile TO registry_maker;
SET ROLE registry_maker;
SET search_path = hostile, pg_catalog, public;
SELECT millrace.promote_model('owned', 1, 'second');
SELECT millrace.drop_model('owned');
RESET search_path;
RESET ROLE;
DROP SCHEMA hostile CASCADE;
DROP ROLE registry_nobody, registry_reader, registry_maker;
