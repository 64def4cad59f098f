CREATE FUNCTION millrace.version() RETURNS text
	LANGUAGE c IMMUTABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_version';
COMMENT ON FUNCTION millrace.version() IS 'version of the loaded library';
