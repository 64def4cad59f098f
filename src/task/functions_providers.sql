-- task: providers

CREATE FUNCTION millrace.pause_provider(provider text, reason text DEFAULT NULL) RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_pause_provider';
COMMENT ON FUNCTION millrace.pause_provider(text, text) IS
	'a provider gets no more calls, whoever''s tasks they are, until resume_provider(); tasks wait or go to their next provider; for the server''s owner and millrace_admin; false: it was so already';

CREATE FUNCTION millrace.resume_provider(provider text) RETURNS boolean
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_resume_provider';
COMMENT ON FUNCTION millrace.resume_provider(text) IS
	'calls to a provider go on after pause_provider(), or after it refused a key; for the server''s owner and millrace_admin; false: it was not paused';

CREATE FUNCTION millrace.provider_limits(provider oid, tenant text, OUT calls integer, OUT requests bigint, OUT tokens bigint,
		OUT rate double precision, OUT breaker text, OUT until timestamptz)
	LANGUAGE c STRICT VOLATILE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_provider_limits';
COMMENT ON FUNCTION millrace.provider_limits(oid, text) IS
	'what shared memory says of a foreign server (tenant '''') or of one of its tenants: see view stat_providers';

REVOKE EXECUTE ON FUNCTION millrace.pause_provider(text, text), millrace.resume_provider(text), millrace.provider_limits(oid, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.pause_provider(text, text), millrace.resume_provider(text) TO millrace_admin, millrace_user;
GRANT EXECUTE ON FUNCTION millrace.provider_limits(oid, text) TO millrace_admin, millrace_monitor;
