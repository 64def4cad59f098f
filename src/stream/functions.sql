-- stream, lifecycle: workers of this database, and how they hear of changes

CREATE FUNCTION millrace.start() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_start';
COMMENT ON FUNCTION millrace.start() IS 'let this database run workers: sets millrace.enabled for it and starts its supervisor';

CREATE FUNCTION millrace.stop() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_stop';
COMMENT ON FUNCTION millrace.stop() IS 'end the workers of this database and keep them off until millrace.start()';

CREATE FUNCTION millrace.worker_slots(OUT kind text, OUT name text, OUT worker int, OUT pid int, OUT state text,
		OUT reason text, OUT since timestamptz, OUT rows bigint, OUT batches bigint, OUT bytes bigint,
		OUT dead bigint, OUT errors bigint) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_worker_slots';
COMMENT ON FUNCTION millrace.worker_slots() IS 'the launcher and the workers of this database as shared memory knows them, with counters since each started';

CREATE FUNCTION millrace.source_binding() RETURNS text
	LANGUAGE c STABLE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_source_binding';
COMMENT ON FUNCTION millrace.source_binding() IS 'names this database and installation; a source whose bound_to is another one counts as paused';

CREATE FUNCTION millrace.sources_changed() RETURNS trigger
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'millrace_sources_changed';
COMMENT ON FUNCTION millrace.sources_changed() IS 'wakes supervisor and workers when a change of millrace.sources commits';

CREATE TRIGGER sources_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON millrace.sources
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.sources_changed();
ALTER TABLE millrace.sources ENABLE ALWAYS TRIGGER sources_changed;
COMMENT ON TRIGGER sources_changed ON millrace.sources IS 'wakes supervisor and workers';

CREATE FUNCTION millrace.status(OUT kind text, OUT name text, OUT pid int, OUT state text, OUT reason text,
		OUT since timestamptz) RETURNS SETOF record
	LANGUAGE sql VOLATILE PARALLEL RESTRICTED ROWS 10
	SET search_path = pg_catalog, pg_temp
AS $$
	WITH slots AS MATERIALIZED (SELECT * FROM millrace.worker_slots()),
	told AS (
		SELECT 1 AS place, s.kind, s.name, 0 AS worker, s.pid, s.state, s.reason, s.since
		  FROM slots s WHERE s.kind = 'launcher'
		UNION ALL
		SELECT 1, 'launcher', NULL, 0, NULL, 'absent',
			   'millrace is not in shared_preload_libraries: after a restart workers need millrace.start()', NULL
		 WHERE NOT EXISTS (SELECT FROM slots s WHERE s.kind = 'launcher')
		UNION ALL
		SELECT 2, s.kind, s.name, 0, s.pid, s.state, s.reason, s.since
		  FROM slots s WHERE s.kind = 'supervisor'
		UNION ALL
		SELECT 2, 'supervisor', current_database(), 0, NULL, 'stopped',
			   CASE WHEN pg_is_in_recovery() THEN 'this server is a standby'
					ELSE 'millrace.start() starts the workers of this database' END, NULL
		 WHERE NOT EXISTS (SELECT FROM slots s WHERE s.kind = 'supervisor')
		UNION ALL
		-- a worker says in source_workers what it is doing; its slot knows that it lives
		SELECT 3, s.kind, format('%s/%s', s.name, s.worker), s.worker, s.pid,
			   CASE WHEN w.pid = s.pid AND s.state <> 'stopping' THEN w.state ELSE s.state END,
			   CASE WHEN w.pid = s.pid THEN w.reason ELSE s.reason END,
			   CASE WHEN w.pid = s.pid THEN greatest(w.since, s.since) ELSE s.since END
		  FROM slots s LEFT JOIN millrace.source_workers w ON w.source = s.name AND w.worker = s.worker
		 WHERE s.kind = 'source'
		UNION ALL
		SELECT 3, 'source', q.name, 0, NULL,
			   CASE WHEN q.state = 'running' AND q.bound_to <> millrace.source_binding() THEN 'paused'
					WHEN q.state = 'running' THEN 'stopped' ELSE q.state END,
			   CASE WHEN q.state = 'running' AND q.bound_to <> millrace.source_binding()
					THEN 'restored or copied from another database: resume_source() starts it here'
					WHEN q.state = 'running' THEN coalesce(w.reason, 'not started')
					ELSE q.reason END,
			   q.state_since
		  FROM millrace.sources q
		  LEFT JOIN LATERAL (SELECT w.reason FROM millrace.source_workers w
							  WHERE w.source = q.name ORDER BY w.worker LIMIT 1) w ON true
		 WHERE NOT EXISTS (SELECT FROM slots s WHERE s.kind = 'source' AND s.name = q.name)
	)
	SELECT t.kind, t.name, t.pid, t.state, t.reason, t.since FROM told t ORDER BY t.place, t.name, t.worker
$$;
COMMENT ON FUNCTION millrace.status() IS 'launcher, supervisor and sources of this database: what each is doing, and why one is not';

REVOKE ALL ON FUNCTION millrace.start(), millrace.stop(), millrace.worker_slots(), millrace.status(), millrace.sources_changed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.start(), millrace.stop() TO millrace_admin;
GRANT EXECUTE ON FUNCTION millrace.worker_slots(), millrace.status() TO millrace_admin, millrace_monitor;
