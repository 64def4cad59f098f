-- task: what queues of requests are doing

CREATE VIEW millrace.stat_http AS
	SELECT q.server, q.owner,
		   CASE WHEN q.state = 'running' AND q.bound_to <> millrace.source_binding() THEN 'paused'
				WHEN q.state <> 'running' THEN q.state
				WHEN p.pid <> 0 AND l.pid IS NULL THEN 'stopped'
				ELSE p.state END AS state,
		   CASE WHEN q.state = 'running' AND q.bound_to <> millrace.source_binding()
				THEN 'restored or copied from another database: resume_requests() starts it here'
				ELSE COALESCE(q.reason, p.reason) END AS reason,
		   l.pid, r.waiting, r.in_flight, r.retrying, r.oldest,
		   p.succeeded, p.failed, p.undelivered, p.retries, p.late, p.batches, p.bytes_in, p.bytes_out,
		   -- in the order of tsk_fault (worker/outcome.h)
		   (SELECT pg_catalog.jsonb_object_agg(f.name, f.n)
			  FROM ROWS FROM (pg_catalog.unnest(ARRAY['missing', 'forbidden', 'not_authenticated', 'too_large', 'truncated', 'too_slow',
					'not_connected', 'connection_lost', 'overloaded', 'server_error', 'refused']), pg_catalog.unnest(p.faults)) AS f(name, n)
			 WHERE f.n > 0) AS errors,
		   LEAST(millrace.latency_quantile(p.latency, 0.5), NULLIF(p.latency_max_us, 0) / 1000.0) AS p50_ms,
		   LEAST(millrace.latency_quantile(p.latency, 0.95), NULLIF(p.latency_max_us, 0) / 1000.0) AS p95_ms,
		   pg_catalog.round(p.latency_sum_us / 1000.0 / NULLIF((SELECT pg_catalog.sum(n) FROM pg_catalog.unnest(p.latency) n), 0), 3) AS mean_ms,
		   pg_catalog.round(p.latency_max_us / 1000.0, 3) AS max_ms,
		   w.messages_per_s AS requests_per_s, p.last_batch_at, p.last_error, p.last_error_at
	FROM millrace.http_queues q
	JOIN millrace.http_progress p ON p.queue = q.id
	LEFT JOIN millrace.worker_slots() l ON l.pid = p.pid AND l.kind = 'http'
	LEFT JOIN millrace.meters() w ON w.kind = 'http' AND w.name = q.server
	LEFT JOIN LATERAL (
		SELECT pg_catalog.count(*) FILTER (WHERE m.epoch IS NULL OR m.epoch <> p.epoch OR l.pid IS NULL) AS waiting,
			   pg_catalog.count(*) FILTER (WHERE m.epoch = p.epoch AND l.pid IS NOT NULL) AS in_flight,
			   pg_catalog.count(*) FILTER (WHERE m.due_at IS NOT NULL) AS retrying, pg_catalog.min(m.created_at) AS oldest
		  FROM millrace.http_requests m WHERE m.queue = q.id) r ON true;
COMMENT ON VIEW millrace.stat_http IS
	'one row a queue of requests: what it does, why it does not, what waits and since when, what became of the others, failed attempts by kind (errors), how long answers took';
COMMENT ON COLUMN millrace.stat_http.waiting IS 'requests not begun, and those to be tried again (retrying)';
COMMENT ON COLUMN millrace.stat_http.in_flight IS 'requests being carried out or delivered';
COMMENT ON COLUMN millrace.stat_http.requests_per_s IS 'of this server, over all its queues, in the last 10 s';
COMMENT ON COLUMN millrace.stat_http.p95_ms IS 'milliseconds within which 95 % of answers came, exact to a factor of 1.42';
GRANT SELECT ON millrace.stat_http TO millrace_admin, millrace_monitor;
