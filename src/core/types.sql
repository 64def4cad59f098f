-- core: the schema and the four roles everything else is granted to

CREATE SCHEMA millrace;
COMMENT ON SCHEMA millrace IS 'Millrace: tables, views, types and administration';
GRANT USAGE ON SCHEMA millrace TO PUBLIC;

-- Roles belong to the cluster: made if absent, never dropped.  A role of the
-- same name that somebody prepared with more rights than ours is refused.
DO $$
DECLARE
	r record;
	role_name text;
BEGIN
	FOREACH role_name IN ARRAY ARRAY['millrace_admin', 'millrace_modeler', 'millrace_user', 'millrace_monitor']
	LOOP
		SELECT rolcanlogin, rolsuper INTO r FROM pg_catalog.pg_roles WHERE rolname = role_name;
		IF NOT FOUND THEN
			EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', role_name);
		ELSIF r.rolcanlogin OR r.rolsuper THEN
			RAISE EXCEPTION 'role "%" exists and can log in or is a superuser', role_name
				USING ERRCODE = 'duplicate_object',
					  HINT = 'Rename that role, or ALTER ROLE ... NOLOGIN NOSUPERUSER, before CREATE EXTENSION.';
		END IF;
	END LOOP;
END
$$;
