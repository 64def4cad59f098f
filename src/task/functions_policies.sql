-- task: classes of errors, and what follows from them

CREATE FUNCTION millrace.error_class(status int, sqlstate text DEFAULT NULL) RETURNS text
	LANGUAGE c STABLE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_error_class';
COMMENT ON FUNCTION millrace.error_class(int, text) IS
	'class of an error by its HTTP status (NULL: none came), else by its SQLSTATE: a row of retry_policies';

CREATE FUNCTION millrace.next_attempt(class text, failed int, attempts int, max_attempts int, chance double precision, now timestamptz,
		retry_after interval DEFAULT NULL, OUT verdict text, OUT due_at timestamptz)
	LANGUAGE c STABLE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_next_attempt';
COMMENT ON FUNCTION millrace.next_attempt(text, int, int, int, double precision, timestamptz, interval) IS
	'what workers do after a failed attempt, the class''s failed-th and the task''s attempts-th of max_attempts, chance within [0, 1): again at due_at; wait, the provider is paused; exhausted, another provider or the end; capped, the end';

REVOKE EXECUTE ON FUNCTION millrace.error_class(int, text),
	millrace.next_attempt(text, int, int, int, double precision, timestamptz, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.error_class(int, text),
	millrace.next_attempt(text, int, int, int, double precision, timestamptz, interval) TO millrace_admin, millrace_monitor, millrace_user;

CREATE FUNCTION millrace.retry_policies_changed() RETURNS trigger
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'millrace_retry_policies_changed';
COMMENT ON FUNCTION millrace.retry_policies_changed() IS 'looks after millrace.retry_policies';
REVOKE EXECUTE ON FUNCTION millrace.retry_policies_changed() FROM PUBLIC;

CREATE TRIGGER retry_policies_own BEFORE INSERT OR UPDATE ON millrace.retry_policies
	FOR EACH ROW EXECUTE FUNCTION millrace.retry_policies_changed();
COMMENT ON TRIGGER retry_policies_own ON millrace.retry_policies IS
	'a changed row is dumped; an inserted one takes the place of a shipped one of its name';
CREATE TRIGGER retry_policies_checked AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON millrace.retry_policies
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.retry_policies_changed();
COMMENT ON TRIGGER retry_policies_checked ON millrace.retry_policies IS 'rows must be of use; workers look again';
ALTER TABLE millrace.retry_policies ENABLE ALWAYS TRIGGER retry_policies_own;
ALTER TABLE millrace.retry_policies ENABLE ALWAYS TRIGGER retry_policies_checked;
SELECT pg_catalog.pg_extension_config_dump('millrace.retry_policies', 'WHERE NOT built_in');
