-- gateway: one screen that tells whether all is well, and what to do if not

-- What is looked at, one row a thing; millrace.status() makes a screen of it.  rank orders kinds; severity 2: what somebody
-- relies on does not happen, 1: it needs attention, 0: all is well.  States, numbers and reasons only: monitors may know them.
CREATE FUNCTION millrace.status_things(OUT rank int, OUT kind text, OUT name text, OUT pid int, OUT state text, OUT reason text,
		OUT since timestamptz, OUT severity int, OUT advice text) RETURNS SETOF record
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER ROWS 30
	SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s'
AS $$
#variable_conflict use_column
DECLARE
	-- is there anything that workers would do?
	wanted constant boolean := NOT pg_is_in_recovery() AND (EXISTS (SELECT FROM millrace.sources s WHERE s.state = 'running')
		OR EXISTS (SELECT FROM millrace.outboxes o WHERE o.state = 'running') OR EXISTS (SELECT FROM millrace.task_queues)
		OR EXISTS (SELECT FROM millrace.http_queues) OR current_setting('millrace.http_listen', true) <> '');
BEGIN
	-- processes
	RETURN QUERY
		SELECT p.rank, w.kind, w.name, w.pid, w.state, w.reason, w.since, p.severity,
			   CASE WHEN p.severity = 0 THEN NULL
					WHEN w.kind = 'launcher' THEN 'ALTER SYSTEM SET shared_preload_libraries = ''millrace''; then restart the server'
					WHEN w.kind = 'supervisor' THEN 'SELECT millrace.start();'
					WHEN w.reason LIKE '%max_worker_processes%' THEN format('ALTER SYSTEM SET max_worker_processes = %s; then restart the server', 2 * current_setting('max_worker_processes')::int)
					WHEN w.reason LIKE '%log in%' THEN 'ALTER ROLE … LOGIN; it needs no password'
					WHEN w.kind = 'source' AND w.state = 'halted' THEN format('see the reason; then SELECT millrace.resume_source(%L); or millrace.rewind_source()', o.object)
					WHEN w.kind = 'source' AND w.state = 'paused' THEN format('SELECT millrace.resume_source(%L);', o.object)
					WHEN w.kind = 'source' THEN format('SELECT * FROM millrace.source_status WHERE name = %L; it goes on by itself', o.object)
					WHEN w.kind = 'outbox' THEN format('SELECT * FROM millrace.outbox_status WHERE server = %L; it goes on by itself', o.object)
					WHEN w.kind = 'gateway' THEN 'SHOW millrace.http_listen; see the server''s log'
					ELSE 'see the reason, and the server''s log' END
		  FROM millrace.worker_status() w,
			   LATERAL (SELECT CASE WHEN w.kind = 'source' AND w.pid IS NOT NULL THEN regexp_replace(w.name, '/[0-9]+$', '') ELSE w.name END) o (object),
			   LATERAL (SELECT array_position('{launcher,supervisor,source,outbox,http,tasks,calls,gateway,executor}', w.kind),
							   CASE WHEN w.kind = 'launcher' THEN CASE WHEN w.state = 'absent' AND wanted THEN 1 ELSE 0 END
									WHEN w.kind = 'supervisor' THEN CASE WHEN w.state = 'stopped' AND wanted THEN 2 WHEN w.state = 'waiting' THEN 2 ELSE 0 END
									WHEN w.state = 'halted' THEN 2
									WHEN w.state IN ('paused', 'absent') THEN 1
									WHEN w.kind = 'source' AND w.state = 'stopped' THEN CASE WHEN pg_is_in_recovery() THEN 0 ELSE 1 END
									-- what has only just begun to wait is as a rule over before anybody has read this
									WHEN w.state = 'waiting' AND w.since < clock_timestamp() - interval '5 s' THEN 1
									ELSE 0 END) p (rank, severity);

	-- what they do
	RETURN QUERY
		SELECT 20, 'lag', m.source, NULL::int, format('%s behind', m.behind), format('the last message read was sent %s ago', justify_interval(make_interval(secs => round(m.lag)))),
			   NULL::timestamptz, 1, format('SELECT millrace.alter_source(%L, ''{"workers_max": 4}''); or see what it waits for', m.source)
		  FROM (SELECT p.source, sum(p.messages_behind) AS behind, max(p.lag_seconds) AS lag FROM millrace.metric_partition p GROUP BY p.source) m
		  JOIN millrace.sources s ON s.name = m.source AND s.state = 'running' AND s.replay_of IS NULL
		 WHERE m.lag > 300
		UNION ALL
		SELECT 21, 'dead letters', s.source, NULL, s.dead_letters || ' wait', NULL, NULL, 1,
			   format('SELECT stage, error, count(*) FROM millrace.dead_letters WHERE source = %L GROUP BY 1, 2; mend it, then SELECT millrace.redrive_dead_letters(%1$L);', s.source)
		  FROM millrace.metric_source s WHERE s.dead_letters > 0
		UNION ALL
		SELECT 22, 'topics', t.topic, NULL, t.state, t.reason, t.created_at,
			   CASE WHEN t.state = 'ready' OR t.state = 'wanted' AND t.failures = 0 THEN 0 ELSE 1 END,
			   CASE WHEN t.state = 'too few partitions' THEN format('add partitions in Kafka, or SELECT millrace.forget_topic(%L, %L);', t.server, t.topic)
					WHEN t.failures > 0 THEN 'see the reason; it is tried again' END
		  FROM millrace.topics t
		UNION ALL
		SELECT 23, 'outbox', o.server, NULL, CASE WHEN o.halted = 1 THEN 'halted' WHEN x.state = 'paused' THEN 'paused' ELSE 'stuck' END,
			   coalesce(x.reason, format('%s messages wait, the oldest for %s', o.waiting, justify_interval(make_interval(secs => round(o.oldest_seconds))))), x.since,
			   CASE WHEN o.halted = 1 THEN 2 ELSE 1 END,
			   CASE WHEN o.up = 0 THEN format('SELECT millrace.resume_outbox(%L);', o.server) ELSE format('SELECT * FROM millrace.outbox_status WHERE server = %L;', o.server) END
		  FROM millrace.metric_outbox o
		  JOIN LATERAL (SELECT b.state, coalesce(b.reason, g.reason) AS reason, b.state_since AS since
						  FROM millrace.outboxes b LEFT JOIN millrace.outbox_progress g USING (server) WHERE b.server = o.server) x ON true
		 WHERE o.up = 0 OR o.oldest_seconds > 60
		UNION ALL
		SELECT 24, 'dead letters', o.server, NULL, o.dead_letters || ' refused', NULL, NULL, 1,
			   format('SELECT topic, error, count(*) FROM millrace.outbox_dead_letters WHERE server = %L GROUP BY 1, 2;', o.server)
		  FROM millrace.metric_outbox o WHERE o.dead_letters > 0
		UNION ALL
		SELECT 25, 'requests', h.server, NULL, CASE WHEN h.state = 'paused' THEN 'paused' ELSE 'running' END, h.reason, h.state_since,
			   CASE WHEN h.state = 'paused' THEN 1 ELSE 0 END, CASE WHEN h.state = 'paused' THEN format('SELECT millrace.resume_requests(%L);', h.server) END
		  FROM millrace.http_queues h
		UNION ALL
		SELECT 26, 'requests', f.server, NULL, sum(f.requests) || ' failed', NULL, NULL, 1,
			   format('SELECT path, sqlstate, error FROM millrace.http_failures WHERE server = %L ORDER BY failed_at DESC LIMIT 10;', f.server)
		  FROM millrace.metric_failed_request f GROUP BY f.server;

	-- tasks and providers
	RETURN QUERY
		SELECT 30, 'task pool', t.owner, NULL::int, t.state, t.reason, t.state_since, CASE WHEN t.state = 'paused' THEN 1 ELSE 0 END,
			   CASE WHEN t.state = 'paused' THEN format('SELECT millrace.resume_tasks(%L);', t.owner) END
		  FROM millrace.task_pools t
		UNION ALL
		SELECT 31, 'task queue', q.queue, NULL, sum(q.waiting) || ' wait', format('since %s', justify_interval(make_interval(secs => round(max(q.oldest_seconds))))), NULL, 1,
			   'SELECT * FROM millrace.stat_tasks; SELECT * FROM millrace.stat_task_workers;'
		  FROM millrace.metric_task q GROUP BY q.lane, q.queue HAVING sum(q.waiting) > 0 AND sum(q.running) = 0 AND max(q.oldest_seconds) FILTER (WHERE q.waiting > 0) > 60
		UNION ALL
		SELECT 32, 'failed tasks', f.kind, NULL, sum(f.n) || ' failed in an hour', max(f.reason), NULL, 1,
			   format('SELECT id, class, error FROM millrace.tasks WHERE kind = %L AND state = ''failed''; then millrace.retry_tasks(ids)', f.kind)
		  FROM (SELECT e.kind, count(*) AS n, string_agg(DISTINCT e.class, ', ') AS reason FROM millrace.task_ended e WHERE e.state = 'failed' GROUP BY e.kind) f GROUP BY f.kind
		UNION ALL
		SELECT 33, 'provider', p.provider, NULL, CASE WHEN p.up = 0 THEN 'paused' WHEN p.breaker_open = 1 THEN 'breaker open' ELSE 'running' END,
			   CASE WHEN p.up = 0 THEN s.reason WHEN p.breaker_open = 1 THEN 'its calls failed; nothing is sent to it for a while' END, s.since,
			   CASE WHEN p.up = 0 OR p.breaker_open = 1 THEN 1 ELSE 0 END,
			   CASE WHEN p.up = 0 THEN format('mend it, then SELECT millrace.resume_provider(%L);', p.provider)
					WHEN p.breaker_open = 1 THEN format('SELECT class, status, error FROM millrace.task_history WHERE queue = %L ORDER BY finished_at DESC LIMIT 10;', p.provider) END
		  FROM millrace.metric_provider p LEFT JOIN millrace.provider_states s ON s.server = p.provider;

	-- models, pipelines, the gateway
	RETURN QUERY
		SELECT 40, 'monitor', m.monitor, NULL::int, CASE WHEN m.alarms > 0 THEN m.alarms || ' alarms' ELSE 'quiet' END, NULL::text,
			   to_timestamp(m.window_end_timestamp_seconds), CASE WHEN m.alarms > 0 THEN 1 ELSE 0 END,
			   CASE WHEN m.alarms > 0 THEN format('SELECT * FROM millrace.drift_alarms WHERE monitor = %L ORDER BY window_no DESC;', m.monitor) END
		  FROM millrace.metric_monitor m
		UNION ALL
		SELECT 41, 'pipeline', p.name, NULL, CASE WHEN f.recent > 0 THEN f.recent || ' failed in an hour' WHEN f.blocking > 0 THEN f.blocking || ' findings block'
					WHEN f.unreadable > 0 THEN 'unreadable' ELSE p.kind END,
			   CASE WHEN f.failures > coalesce(f.recent, 0) THEN format('%s failures in all', f.failures) END, NULL,
			   CASE WHEN f.recent > 0 OR f.blocking > 0 OR f.unreadable > 0 THEN 1 ELSE 0 END,
			   CASE WHEN f.blocking > 0 THEN format('SELECT * FROM %I.findings_summary WHERE severity = ''blocking'' AND NOT waived;', p.name)
					WHEN f.recent > 0 THEN CASE p.kind
						WHEN 'answers' THEN format('SELECT class, error, count(*) FROM %I.failed_questions GROUP BY 1, 2; then SELECT %1$I.retry_failed();', p.name)
						WHEN 'events' THEN format('SELECT type, message, count(*) FROM %I.failures GROUP BY 1, 2; then SELECT %1$I.retry();', p.name)
						WHEN 'tabular' THEN format('SELECT period, error FROM %I.runs WHERE state = ''failed''; then SELECT * FROM %1$I.catch_up();', p.name)
						ELSE format('SELECT stage, message, count(*) FROM %I.failures GROUP BY 1, 2;', p.name) END
					WHEN f.unreadable > 0 THEN format('SELECT * FROM pg_locks WHERE NOT granted; or SELECT millrace.upgrade_pipeline(%L);', p.name) END
		  FROM millrace.pipelines p
		  LEFT JOIN LATERAL (SELECT max(g.value) FILTER (WHERE g.figure = 'failures') AS failures, max(g.value) FILTER (WHERE g.figure = 'failures_1h') AS recent,
									max(g.value) FILTER (WHERE g.figure = 'blocking') AS blocking, max(g.value) FILTER (WHERE g.figure = 'unreadable') AS unreadable
							   FROM millrace.pipeline_figures() g WHERE g.pipeline = p.name) f ON true
		UNION ALL
		SELECT 42, 'gateway', l.listen, NULL, CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'absent' END, 'no process serves this address', NULL,
			   CASE WHEN pg_is_in_recovery() THEN 0 ELSE 2 END, 'SELECT millrace.start(); and see the server''s log'
		  FROM (SELECT nullif(current_setting('millrace.http_listen', true), '')) l (listen)
		 WHERE l.listen IS NOT NULL AND NOT EXISTS (SELECT FROM millrace.worker_slots() w WHERE w.kind = 'gateway');
END
$$;
COMMENT ON FUNCTION millrace.status_things() IS 'everything that millrace.status() looks at, one row a thing, with its severity';

-- Of what is well, three of a kind are named and more are counted; of what is not, ten.
CREATE FUNCTION millrace.status(OUT kind text, OUT name text, OUT pid int, OUT state text, OUT reason text,
		OUT since timestamptz, OUT ok boolean, OUT advice text) RETURNS SETOF record
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 20
	SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY
		WITH thing AS MATERIALIZED (SELECT t.*, row_number() OVER () AS n FROM millrace.status_things() t),
		counted AS (
			SELECT t.*, row_number() OVER same AS place, count(*) OVER (PARTITION BY t.kind, t.severity > 0) AS many
			  FROM thing t WINDOW same AS (PARTITION BY t.kind, t.severity > 0 ORDER BY t.severity DESC, t.n)),
		troubles AS (SELECT count(*) AS many, max(t.severity) AS worst FROM thing t WHERE t.severity > 0),
		line AS (
			SELECT 0 AS rank, 0 AS n, 'millrace' AS kind, current_database()::text AS name, NULL::int AS pid,
				   CASE t.many WHEN 0 THEN 'all is well' WHEN 1 THEN '1 thing needs attention' ELSE t.many || ' things need attention' END AS state,
				   NULL AS reason, NULL::timestamptz AS since, t.many = 0 AS ok, CASE WHEN t.many > 0 THEN 'see the rows that are not ok' END AS advice
			  FROM troubles t
			UNION ALL
			SELECT c.rank, c.n, c.kind, c.name, c.pid, c.state, c.reason, c.since, c.severity = 0, c.advice
			  FROM counted c WHERE CASE WHEN c.severity > 0 THEN c.place <= 10 ELSE c.many <= 3 END
			UNION ALL
			SELECT min(c.rank), max(c.n), c.kind, format(CASE WHEN c.severity > 0 THEN '%s more' ELSE '%s of them' END, count(*)), NULL,
				   CASE WHEN count(DISTINCT c.state) = 1 THEN min(c.state) ELSE string_agg(DISTINCT c.state, ', ') END, NULL, NULL, c.severity = 0, NULL
			  FROM counted c WHERE CASE WHEN c.severity > 0 THEN c.place > 10 ELSE c.many > 3 END GROUP BY c.kind, c.severity > 0, c.severity = 0)
		SELECT l.kind, l.name, l.pid, l.state, l.reason, l.since, l.ok, l.advice FROM line l ORDER BY l.rank, l.n;
END
$$;
COMMENT ON FUNCTION millrace.status() IS
	'one screen: whether all is well in this database (first row), processes and what they do, and for what is not ok what to do about it';

-- For GET /health, which anybody may ask: names are for those who may see states.
CREATE FUNCTION millrace.health() RETURNS jsonb
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	sees boolean;
	worst int;
	reasons jsonb;
BEGIN
	SELECT coalesce(bool_or(pg_has_role(millrace.request_role(), r.oid, 'USAGE')), false) INTO sees
	  FROM pg_roles r WHERE r.rolname IN ('millrace_monitor', 'millrace_admin');
	SELECT coalesce(max(t.severity), 0), coalesce(jsonb_agg(DISTINCT CASE WHEN sees THEN concat_ws(' ', t.kind, t.name || ':', t.state) || coalesce(' (' || t.reason || ')', '')
			ELSE concat_ws(' ', t.kind, CASE WHEN t.state ~ '[0-9]' THEN 'needs attention' ELSE t.state END) END), '[]')
	  INTO worst, reasons FROM millrace.status_things() t WHERE t.severity > 0;
	RETURN jsonb_build_object('status', (ARRAY['healthy', 'degraded', 'unhealthy'])[worst + 1], 'reasons', reasons);
END
$$;
COMMENT ON FUNCTION millrace.health() IS
	'{"status": "healthy", "degraded" or "unhealthy", "reasons": [...]}: degraded where millrace.status() has advice, unhealthy where something stands still that should run; names for members of millrace_monitor only';

REVOKE EXECUTE ON FUNCTION millrace.status_things(), millrace.status() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.status_things(), millrace.status() TO millrace_admin, millrace_monitor;
