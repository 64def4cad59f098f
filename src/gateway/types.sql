-- gateway: what functions of routes give back
--
-- A domain whose name is a media type says what a result is, as in PostgREST.

CREATE DOMAIN millrace."text/html" AS text;
COMMENT ON DOMAIN millrace."text/html" IS 'a page: the gateway sends it as text/html';
CREATE DOMAIN millrace."image/svg+xml" AS text;
COMMENT ON DOMAIN millrace."image/svg+xml" IS 'a drawing: the gateway sends it as image/svg+xml';
CREATE DOMAIN millrace."text/csv" AS text;
COMMENT ON DOMAIN millrace."text/csv" IS 'a table: the gateway sends it as text/csv';
CREATE DOMAIN millrace."image/jpeg" AS bytea;
COMMENT ON DOMAIN millrace."image/jpeg" IS 'a photo: the gateway sends it as image/jpeg';
CREATE DOMAIN millrace."image/png" AS bytea;
COMMENT ON DOMAIN millrace."image/png" IS 'a picture: the gateway sends it as image/png';

CREATE TYPE millrace.http_response AS (
	status       int,
	content_type text,
	body         bytea,
	headers      jsonb,
	poll         jsonb
);
COMMENT ON TYPE millrace.http_response IS
	'a whole answer, for functions of routes that say more than 200: status, media type and bytes, headers {"Name": "value"}; poll: not yet, see millrace.respond_later()';

-- The role that the gateway's processes connect as.  It may log in, for background workers obey NOLOGIN; it has no password and no
-- connections, owns nothing, and is granted nothing but functions that answer without a token.
DO $$
DECLARE
	super boolean;
BEGIN
	SELECT rolsuper INTO super FROM pg_catalog.pg_roles WHERE rolname = 'millrace_gateway';
	IF NOT FOUND THEN
		CREATE ROLE millrace_gateway LOGIN NOINHERIT CONNECTION LIMIT 0;
	ELSIF super THEN
		RAISE EXCEPTION 'role "millrace_gateway" exists and is a superuser'
			USING ERRCODE = 'duplicate_object', HINT = 'Rename that role, or ALTER ROLE ... NOSUPERUSER, before CREATE EXTENSION.';
	END IF;
END
$$;
