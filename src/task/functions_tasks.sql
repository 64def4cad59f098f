-- task: the task queue

CREATE FUNCTION millrace.submit_task(kind text, payload jsonb, options jsonb DEFAULT '{}') RETURNS uuid
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_submit_task';
COMMENT ON FUNCTION millrace.submit_task(text, jsonb, jsonb) IS
	'a task of the current user, begun once this transaction has committed; options: priority, delay, due_at, deadline, timeout_ms, key, order_key, tag, tenant, deliver, watch, max_attempts, provider; returns its id, or, where the key was given before, that task''s';

CREATE FUNCTION millrace.task_now() RETURNS timestamptz
	LANGUAGE c STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_task_now';
COMMENT ON FUNCTION millrace.task_now() IS 'the clock that tasks go by: clock_timestamp(), and millrace.task_clock_offset_ms';

CREATE FUNCTION millrace.cancel_task(id uuid) RETURNS boolean
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_cancel_task';
COMMENT ON FUNCTION millrace.cancel_task(uuid) IS
	'a task that waits ends as cancelled, one that runs is interrupted if it can be (its state says what came of it); one''s own, or a member''s; false: it has ended, or there is none';

CREATE FUNCTION millrace.retry_tasks(ids uuid[]) RETURNS bigint
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_retry_tasks';
COMMENT ON FUNCTION millrace.retry_tasks(uuid[]) IS
	'tasks that failed, expired or were cancelled begin again under their ids, with all their attempts before them and no deadline; returns how many';

CREATE FUNCTION millrace.pause_tasks(owner text DEFAULT NULL, reason text DEFAULT NULL) RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_pause_tasks';
COMMENT ON FUNCTION millrace.pause_tasks(text, text) IS
	'no more tasks of a role, NULL: one''s own, are begun; they are kept, and more can be submitted; returns whether there are any';

CREATE FUNCTION millrace.resume_tasks(owner text DEFAULT NULL) RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_resume_tasks';
COMMENT ON FUNCTION millrace.resume_tasks(text) IS
	'tasks of a role, NULL: one''s own, go on: after a pause, after a restore or a clone of the database; returns whether there are any';

CREATE FUNCTION millrace.alter_task_pool(owner text, options jsonb) RETURNS void
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_alter_task_pool';
COMMENT ON FUNCTION millrace.alter_task_pool(text, jsonb) IS
	'options of a role''s workers: workers_min, workers_max, max_tasks, memory, slots, lease_s; null: the default again';

CREATE FUNCTION millrace.create_task_kind(kind text, base text, options jsonb DEFAULT '{}') RETURNS void
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_create_task_kind';
COMMENT ON FUNCTION millrace.create_task_kind(text, text, jsonb) IS
	'a kind of tasks for submit_task(): base llm (option prompt: text with {{name}} where a value of the payload goes), embed, fetch or sql (option function: f(jsonb) returns jsonb); other options are those that its tasks have by default';

CREATE FUNCTION millrace.drop_task_kind(kind text) RETURNS boolean
	LANGUAGE c STRICT VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_drop_task_kind';
COMMENT ON FUNCTION millrace.drop_task_kind(text) IS
	'a kind of tasks is gone, and those of it that still wait fail; false: there was none';

CREATE FUNCTION millrace.rotate_tasks() RETURNS boolean
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_rotate_tasks';
COMMENT ON FUNCTION millrace.rotate_tasks() IS
	'empties leaves of task_queue, task_done and task_attempts that have had their time, if nobody is at them, and forgets old keys; the supervisor calls it; returns whether anything was emptied';

REVOKE EXECUTE ON FUNCTION millrace.rotate_tasks(), millrace.submit_task(text, jsonb, jsonb), millrace.task_now(), millrace.cancel_task(uuid), millrace.retry_tasks(uuid[]),
	millrace.pause_tasks(text, text), millrace.resume_tasks(text), millrace.alter_task_pool(text, jsonb),
	millrace.create_task_kind(text, text, jsonb), millrace.drop_task_kind(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.submit_task(text, jsonb, jsonb), millrace.cancel_task(uuid), millrace.retry_tasks(uuid[]),
	millrace.pause_tasks(text, text), millrace.resume_tasks(text) TO millrace_admin, millrace_user;
GRANT EXECUTE ON FUNCTION millrace.rotate_tasks(), millrace.alter_task_pool(text, jsonb), millrace.create_task_kind(text, text, jsonb), millrace.drop_task_kind(text) TO millrace_admin;
GRANT EXECUTE ON FUNCTION millrace.task_now() TO millrace_admin, millrace_user, millrace_monitor;

CREATE FUNCTION millrace.task_kinds_changed() RETURNS trigger
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_task_kinds_changed';
COMMENT ON FUNCTION millrace.task_kinds_changed() IS 'trigger on task_kinds: processes read them anew';
REVOKE EXECUTE ON FUNCTION millrace.task_kinds_changed() FROM PUBLIC;

CREATE TRIGGER task_kinds_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON millrace.task_kinds
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.task_kinds_changed();
ALTER TABLE millrace.task_kinds ENABLE ALWAYS TRIGGER task_kinds_changed;
COMMENT ON TRIGGER task_kinds_changed ON millrace.task_kinds IS 'processes read them anew';

CREATE TRIGGER task_pools_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON millrace.task_pools
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.sources_changed();
ALTER TABLE millrace.task_pools ENABLE ALWAYS TRIGGER task_pools_changed;
COMMENT ON TRIGGER task_pools_changed ON millrace.task_pools IS 'wakes supervisor and workers';

