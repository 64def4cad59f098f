-- registry: monitors (C in monitor_*_pg.c) and schedules (schedule_pg.c)

CREATE FUNCTION millrace.create_monitor(name text, query text, options jsonb DEFAULT '{}') RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
	AS 'MODULE_PATHNAME', 'millrace_create_monitor';
COMMENT ON FUNCTION millrace.create_monitor(text, text, jsonb) IS
	'watch the columns of a query or table, window by window, for drift from a reference; run_monitor() or run_due() does it, with the rights of the caller of this';

CREATE FUNCTION millrace.run_monitor(name text, until timestamptz DEFAULT pg_catalog.now()) RETURNS integer
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
	AS 'MODULE_PATHNAME', 'millrace_run_monitor';
COMMENT ON FUNCTION millrace.run_monitor(text, timestamptz) IS
	'compare the windows that ended by then and were not compared yet, oldest first, and measure predictions whose labels arrived; returns the number of windows';

CREATE FUNCTION millrace.drop_monitor(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
	AS 'MODULE_PATHNAME', 'millrace_drop_monitor';
COMMENT ON FUNCTION millrace.drop_monitor(text) IS 'remove a monitor with all it has seen';

CREATE FUNCTION millrace.create_schedule(name text, every interval, command text, start timestamptz DEFAULT pg_catalog.now())
	RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
	AS 'MODULE_PATHNAME', 'millrace_create_schedule';
COMMENT ON FUNCTION millrace.create_schedule(text, interval, text, timestamptz) IS
	'let run_due() run a statement with the rights of the caller of this, first at start, then every so long; a schedule of the same name and owner is replaced';

CREATE FUNCTION millrace.drop_schedule(name text) RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT
	AS 'MODULE_PATHNAME', 'millrace_drop_schedule';
COMMENT ON FUNCTION millrace.drop_schedule(text) IS 'remove what create_schedule() made';

CREATE FUNCTION millrace.run_due(until timestamptz DEFAULT pg_catalog.now())
	RETURNS TABLE (kind text, name text, ok boolean, message text)
	LANGUAGE c VOLATILE PARALLEL UNSAFE CALLED ON NULL INPUT ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_run_due';
COMMENT ON FUNCTION millrace.run_due(timestamptz) IS
	'run all monitors and schedules that are due, each with its owner''s rights; one that fails is undone and noted, the others run; to be called by pg_cron or any timer';

REVOKE EXECUTE ON FUNCTION
	millrace.create_monitor(text, text, jsonb), millrace.run_monitor(text, timestamptz), millrace.drop_monitor(text),
	millrace.create_schedule(text, interval, text, timestamptz), millrace.drop_schedule(text), millrace.run_due(timestamptz)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	millrace.create_monitor(text, text, jsonb), millrace.run_monitor(text, timestamptz), millrace.drop_monitor(text),
	millrace.create_schedule(text, interval, text, timestamptz), millrace.drop_schedule(text)
	TO millrace_modeler, millrace_admin;
GRANT EXECUTE ON FUNCTION millrace.run_due(timestamptz) TO millrace_admin;
