-- The extension (installed by the runner) says its version, and its roles hold no login.
SELECT millrace.version() = (SELECT extversion FROM pg_extension WHERE extname = 'millrace') AS library_and_script_agree;
SELECT rolname, rolcanlogin, rolsuper FROM pg_roles WHERE rolname LIKE 'millrace\_%' AND rolname IN
	('millrace_admin', 'millrace_modeler', 'millrace_user', 'millrace_monitor') ORDER BY 1;

-- Every object a user can see says what it is.
SELECT p.oid::regprocedure AS function_without_comment
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'millrace'
JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
WHERE d.deptype = 'e' AND obj_description(p.oid, 'pg_proc') IS NULL;
SELECT c.oid::regclass AS relation_without_comment
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'millrace'
JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid
WHERE d.deptype = 'e' AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL;
SELECT t.oid::regtype AS type_without_comment
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'millrace'
JOIN pg_type t ON d.classid = 'pg_type'::regclass AND t.oid = d.objid
WHERE d.deptype = 'e' AND t.typtype = 'c' AND t.typrelid NOT IN (SELECT oid FROM pg_class WHERE relkind <> 'c')
AND obj_description(t.oid, 'pg_type') IS NULL;

-- Nothing but users' functions is outside schema millrace.
SELECT p.oid::regprocedure AS stray
FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid AND e.extname = 'millrace'
JOIN pg_proc p ON d.classid = 'pg_proc'::regclass AND p.oid = d.objid
WHERE d.deptype = 'e' AND p.pronamespace NOT IN ('millrace'::regnamespace, e.extnamespace);

-- A role of ours that can log in was made by somebody else.
\set SHOW_CONTEXT never
DROP EXTENSION millrace;
BEGIN;
ALTER ROLE millrace_monitor LOGIN;
CREATE EXTENSION millrace;
ROLLBACK;

-- The extension's functions go where the user wants them.
CREATE SCHEMA elsewhere;
CREATE EXTENSION millrace SCHEMA elsewhere;
SELECT count(*) > 0 AS functions_are_elsewhere FROM pg_proc WHERE pronamespace = 'elsewhere'::regnamespace;
DROP EXTENSION millrace;
DROP SCHEMA elsewhere;
CREATE EXTENSION millrace;
