-- task: what tasks are doing.  Roles see the tasks of roles they are a member of; millrace_admin sees all, millrace_monitor
-- all but payloads, results and errors' texts.

-- Two views, for security_barrier does not reach into a UNION ALL: conditions of whoever asks would come before ours.
CREATE VIEW millrace.tasks_queued WITH (security_barrier) AS
	SELECT t.id, q.owner, t.kind,
		   CASE WHEN t.lease IS NOT NULL THEN 'running'
				WHEN t.attempts > 0 THEN 'retrying'
				WHEN t.due_at > millrace.task_now() THEN 'delayed'
				ELSE 'waiting' END AS state,
		   q.lane, q.name AS queue, t.priority, t.tenant, t.order_key, t.key, t.tag, t.payload, NULL::jsonb AS result,
		   t.class, t.sqlstate, t.error, t.attempts, t.tries, t.created_at,
		   CASE WHEN t.lease IS NULL THEN t.due_at END AS due_at, t.deadline, t.started_at, NULL::timestamptz AS finished_at, t.pid, t.deliver
	  FROM millrace.task_queue t JOIN millrace.task_queues q ON q.id = t.queue
	 WHERE pg_catalog.pg_has_role('millrace_admin', 'USAGE')
		OR q.owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'));
COMMENT ON VIEW millrace.tasks_queued IS 'part of view tasks: those that wait or run';
CREATE VIEW millrace.tasks_done WITH (security_barrier) AS
	SELECT d.id, d.owner, d.kind, d.state, d.lane, d.queue, d.priority, d.tenant, d.order_key, d.key, d.tag, d.payload, d.result,
		   d.class, d.sqlstate, d.error, d.attempts, d.tries, d.created_at,
		   NULL::timestamptz AS due_at, NULL::timestamptz AS deadline, d.started_at, d.finished_at, NULL::int AS pid, d.deliver
	  FROM millrace.task_done d
	 WHERE pg_catalog.pg_has_role('millrace_admin', 'USAGE')
		OR d.owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'));
COMMENT ON VIEW millrace.tasks_done IS 'part of view tasks: those that have ended';
CREATE VIEW millrace.tasks AS
	SELECT * FROM millrace.tasks_queued UNION ALL SELECT * FROM millrace.tasks_done;
COMMENT ON VIEW millrace.tasks IS
	'tasks that wait or run, and those that have ended within millrace.task_retention; state: waiting, delayed, retrying, running, succeeded, failed, cancelled, expired';
COMMENT ON COLUMN millrace.tasks.queue IS 'provider, server or "sql"';
COMMENT ON COLUMN millrace.tasks.due_at IS 'no attempt begins before it';
COMMENT ON COLUMN millrace.tasks.class IS 'of the last attempt''s error: a row of retry_policies';
COMMENT ON COLUMN millrace.tasks.tries IS 'failed attempts by class of error';

CREATE VIEW millrace.task_history WITH (security_barrier) AS
	SELECT a.id, a.attempt, a.owner, a.queue, a.kind, a.tenant, a.pid, a.started_at, a.finished_at, a.class, a.status, a.sqlstate, a.error,
		   a.retry_after, a.again_at, a.tokens_in, a.tokens_out, a.cost
	  FROM millrace.task_attempts a
	 WHERE pg_catalog.pg_has_role('millrace_admin', 'USAGE')
		OR a.owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'));
COMMENT ON VIEW millrace.task_history IS 'every attempt of a task that has ended: when, where, and what came of it (class NULL: it succeeded)';

GRANT SELECT ON millrace.tasks, millrace.task_history TO millrace_admin, millrace_user;

-- What has ended in the last hour, of tasks the caller may know of.
CREATE VIEW millrace.task_ended WITH (security_barrier) AS
	SELECT d.owner, d.lane, d.queue, d.kind, d.state, d.class, d.sqlstate, d.attempts, d.created_at, d.started_at, d.finished_at
	  FROM millrace.task_done d
	 WHERE d.finished_at > millrace.task_now() - interval '1 hour'
	   AND (pg_catalog.pg_has_role('millrace_admin', 'USAGE') OR pg_catalog.pg_has_role('millrace_monitor', 'USAGE')
			OR d.owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r WHERE pg_catalog.pg_has_role(r.oid, 'USAGE')));
COMMENT ON VIEW millrace.task_ended IS 'tasks that have ended in the last hour, without what they were about';

CREATE VIEW millrace.stat_tasks WITH (security_barrier) AS
	SELECT owner, lane, queue, kind,
		   pg_catalog.sum(waiting)::bigint AS waiting, pg_catalog.sum(delayed)::bigint AS delayed, pg_catalog.sum(retrying)::bigint AS retrying,
		   pg_catalog.sum(running)::bigint AS running, pg_catalog.min(oldest) AS oldest,
		   pg_catalog.sum(succeeded)::bigint AS succeeded, pg_catalog.sum(failed)::bigint AS failed, pg_catalog.sum(cancelled)::bigint AS cancelled,
		   pg_catalog.sum(expired)::bigint AS expired, pg_catalog.sum(retried)::bigint AS retried
	  FROM (SELECT q.owner, q.lane, q.name AS queue, t.kind,
				   pg_catalog.count(*) FILTER (WHERE t.lease IS NULL AND t.attempts = 0 AND (t.due_at IS NULL OR t.due_at <= millrace.task_now())) AS waiting,
				   pg_catalog.count(*) FILTER (WHERE t.lease IS NULL AND t.attempts = 0 AND t.due_at > millrace.task_now()) AS delayed,
				   pg_catalog.count(*) FILTER (WHERE t.lease IS NULL AND t.attempts > 0) AS retrying,
				   pg_catalog.count(*) FILTER (WHERE t.lease IS NOT NULL) AS running,
				   pg_catalog.min(t.created_at) FILTER (WHERE t.lease IS NULL) AS oldest,
				   0 AS succeeded, 0 AS failed, 0 AS cancelled, 0 AS expired, 0 AS retried
			  FROM millrace.task_queue t JOIN millrace.task_queues q ON q.id = t.queue
			 WHERE pg_catalog.pg_has_role('millrace_admin', 'USAGE') OR pg_catalog.pg_has_role('millrace_monitor', 'USAGE')
				OR q.owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r WHERE pg_catalog.pg_has_role(r.oid, 'USAGE'))
			 GROUP BY q.owner, q.lane, q.name, t.kind
			UNION ALL
			SELECT owner, lane, queue, kind, 0, 0, 0, 0, NULL,
				   pg_catalog.count(*) FILTER (WHERE state = 'succeeded'), pg_catalog.count(*) FILTER (WHERE state = 'failed'),
				   pg_catalog.count(*) FILTER (WHERE state = 'cancelled'), pg_catalog.count(*) FILTER (WHERE state = 'expired'),
				   pg_catalog.count(*) FILTER (WHERE attempts > 1)
			  FROM millrace.task_ended
			 GROUP BY owner, lane, queue, kind) s
	 GROUP BY owner, lane, queue, kind;
COMMENT ON VIEW millrace.stat_tasks IS
	'for each role, queue and kind: tasks that wait, are delayed, will be tried again, run; and how those of the last hour ended';
COMMENT ON COLUMN millrace.stat_tasks.oldest IS 'when the oldest that waits was submitted';
COMMENT ON COLUMN millrace.stat_tasks.retried IS 'those of the last hour that took more than one attempt';

CREATE VIEW millrace.stat_task_latency WITH (security_barrier) AS
	SELECT owner, kind, stage, tasks, p[1] AS p50_ms, p[2] AS p95_ms, p[3] AS p99_ms, max_ms
	  FROM (SELECT e.owner, e.kind, s.stage, pg_catalog.count(*) AS tasks,
				   pg_catalog.percentile_cont('{0.5, 0.95, 0.99}'::double precision[]) WITHIN GROUP (ORDER BY s.ms) AS p, pg_catalog.max(s.ms) AS max_ms
			  FROM millrace.task_ended e
			 CROSS JOIN LATERAL (VALUES ('queued', 1000 * EXTRACT(epoch FROM e.started_at - e.created_at)::double precision),
					('attempt', 1000 * EXTRACT(epoch FROM e.finished_at - e.started_at)::double precision),
					('whole', 1000 * EXTRACT(epoch FROM e.finished_at - e.created_at)::double precision)) s(stage, ms)
			 WHERE e.started_at IS NOT NULL
			 GROUP BY e.owner, e.kind, s.stage) x;
COMMENT ON VIEW millrace.stat_task_latency IS
	'how long tasks took that ended in the last hour: queued, until their last attempt began; that attempt; the whole';

CREATE VIEW millrace.stat_task_failures WITH (security_barrier) AS
	SELECT a.owner, a.queue, a.kind, a.class, a.status, a.sqlstate, pg_catalog.count(*) AS attempts,
		   pg_catalog.count(*) FILTER (WHERE a.again_at IS NULL) AS last_attempts,
		   pg_catalog.max(a.finished_at) AS last_at
	  FROM millrace.task_attempts a
	 WHERE a.class IS NOT NULL AND a.finished_at > millrace.task_now() - interval '1 hour'
	   AND (pg_catalog.pg_has_role('millrace_admin', 'USAGE') OR pg_catalog.pg_has_role('millrace_monitor', 'USAGE')
			OR a.owner IN (SELECT r.rolname FROM pg_catalog.pg_roles r WHERE pg_catalog.pg_has_role(r.oid, 'USAGE')))
	 GROUP BY a.owner, a.queue, a.kind, a.class, a.status, a.sqlstate;
COMMENT ON VIEW millrace.stat_task_failures IS 'attempts that failed in the last hour, by class of error';
COMMENT ON COLUMN millrace.stat_task_failures.last_attempts IS 'after which no further one followed with that provider';

CREATE VIEW millrace.stat_task_workers AS
	SELECT w.kind AS lane, w.name AS owner, w.worker, w.pid, w.state, w.reason, w.since, w.rows AS tasks, w.errors, t.running, t.oldest
	  FROM millrace.worker_slots() w
	  LEFT JOIN LATERAL (
		SELECT pg_catalog.count(*) AS running, pg_catalog.min(q.started_at) AS oldest
		  FROM millrace.task_queue q JOIN millrace.task_queues n ON n.id = q.queue
		 WHERE n.owner = w.name AND q.due_at IS NOT NULL AND q.lease IS NOT NULL AND q.pid = w.pid) t ON true
	 WHERE w.kind IN ('tasks', 'calls');
COMMENT ON VIEW millrace.stat_task_workers IS 'processes that carry tasks out: lane, whose, what each does and why it waits, how many tasks it has ended, and is at';
COMMENT ON COLUMN millrace.stat_task_workers.lane IS 'tasks: functions in the database; calls: providers and servers';
COMMENT ON COLUMN millrace.stat_task_workers.oldest IS 'when the longest of the running attempts began';

GRANT SELECT ON millrace.task_ended, millrace.stat_tasks, millrace.stat_task_latency, millrace.stat_task_failures TO millrace_admin, millrace_monitor, millrace_user;
GRANT SELECT ON millrace.stat_task_workers TO millrace_admin, millrace_monitor;

SELECT pg_catalog.pg_extension_config_dump('millrace.task_pools', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.task_kinds', 'WHERE kind <> base');
