-- task: the task queue

CREATE FUNCTION millrace.submit_task(kind text, payload jsonb, options jsonb DEFAULT '{}') RETURNS uuid
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_submit_task';
COMMENT ON FUNCTION millrace.submit_task(text, jsonb, jsonb) IS
	'a task of the current user, begun once this transaction has committed; options: priority, delay, due_at, deadline, timeout_ms, key, order_key, tag, tenant, deliver, watch, max_attempts, provider; returns its id, or, where the key was given before, that task''s';

CREATE FUNCTION millrace.task_now() RETURNS timestamptz
	LANGUAGE c VOLATILE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_task_now';
COMMENT ON FUNCTION millrace.task_now() IS 'the clock that tasks go by: clock_timestamp(), and millrace.task_clock_offset_ms';

REVOKE EXECUTE ON FUNCTION millrace.submit_task(text, jsonb, jsonb), millrace.task_now() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.submit_task(text, jsonb, jsonb) TO millrace_admin, millrace_user;
GRANT EXECUTE ON FUNCTION millrace.task_now() TO millrace_admin, millrace_user, millrace_monitor;

CREATE TRIGGER task_pools_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON millrace.task_pools
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.sources_changed();
ALTER TABLE millrace.task_pools ENABLE ALWAYS TRIGGER task_pools_changed;
COMMENT ON TRIGGER task_pools_changed ON millrace.task_pools IS 'wakes supervisor and workers';

