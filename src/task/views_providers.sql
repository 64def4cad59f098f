-- task: what providers are doing

CREATE VIEW millrace.stat_providers AS
	WITH recent AS (
		SELECT a.queue, a.tenant, a.class, a.tokens_in, a.tokens_out, a.cost, 1000 * EXTRACT(epoch FROM a.finished_at - a.started_at) AS ms
		  FROM millrace.task_attempts a WHERE a.finished_at > millrace.task_now() - interval '1 hour'),
	sums AS (
		SELECT r.queue, CASE WHEN GROUPING(r.tenant) = 0 THEN r.tenant END AS tenant, pg_catalog.count(*) AS attempts,
			   pg_catalog.count(*) FILTER (WHERE r.class IS NULL) AS succeeded, pg_catalog.sum(r.tokens_in) AS tokens_in,
			   pg_catalog.sum(r.tokens_out) AS tokens_out, pg_catalog.sum(r.cost) AS cost,
			   pg_catalog.percentile_cont(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY r.ms::double precision) FILTER (WHERE r.class IS NULL) AS latency
		  FROM recent r GROUP BY GROUPING SETS ((r.queue), (r.queue, r.tenant))),
	failures AS (
		SELECT f.queue, f.tenant, pg_catalog.jsonb_object_agg(f.class, f.n) AS failed
		  FROM (SELECT r.queue, CASE WHEN GROUPING(r.tenant) = 0 THEN r.tenant END AS tenant, r.class, pg_catalog.count(*) AS n
				  FROM recent r WHERE r.class IS NOT NULL GROUP BY GROUPING SETS ((r.queue, r.class), (r.queue, r.tenant, r.class))) f
		 GROUP BY f.queue, f.tenant),
	servers AS (
		SELECT s.oid, s.srvname::text AS name, o.option
		  FROM pg_catalog.pg_foreign_server s
		  JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw AND w.fdwname = 'millrace_http',
			   LATERAL (SELECT pg_catalog.jsonb_object_agg(option_name, option_value) AS option FROM pg_catalog.pg_options_to_table(s.srvoptions)) o
		 WHERE o.option ->> 'api' <> 's3')
	SELECT s.name AS provider, r.tenant, s.option ->> 'api' AS api,
		   CASE WHEN p.paused THEN 'paused' WHEN l.breaker <> 'closed' THEN l.breaker WHEN l.until IS NOT NULL THEN 'held' ELSE 'running' END AS state,
		   CASE WHEN p.paused THEN p.reason END AS reason, CASE WHEN p.paused THEN p.since END AS since,
		   l.until, l.breaker, l.rate, l.calls, COALESCE((s.option ->> 'concurrency')::int, 16) AS concurrency,
		   w.requests, (s.option ->> (r.prefix || 'requests_per_minute'))::bigint AS requests_per_minute,
		   w.tokens, (s.option ->> (r.prefix || 'tokens_per_minute'))::bigint AS tokens_per_minute,
		   w.tokens * (s.option ->> 'cost_per_1k')::numeric / 1000 AS cost,
		   (s.option ->> (r.prefix || 'cost_per_minute'))::numeric AS cost_per_minute,
		   COALESCE(r.attempts, 0) AS attempts, COALESCE(r.succeeded, 0) AS succeeded, f.failed,
		   r.tokens_in AS tokens_in_1h, r.tokens_out AS tokens_out_1h, r.cost AS cost_1h,
		   pg_catalog.round(r.latency[1]::numeric, 3) AS p50_ms, pg_catalog.round(r.latency[2]::numeric, 3) AS p95_ms,
		   pg_catalog.round(r.latency[3]::numeric, 3) AS p99_ms
	  FROM servers s
	  JOIN LATERAL (
		SELECT '' AS prefix, t.* FROM (SELECT) one LEFT JOIN sums t ON t.queue = s.name AND t.tenant IS NULL
		UNION ALL SELECT 'tenant_', t.* FROM sums t WHERE t.queue = s.name AND t.tenant <> '') r ON true
	  LEFT JOIN failures f ON f.queue = s.name AND f.tenant IS NOT DISTINCT FROM r.tenant
	  LEFT JOIN millrace.provider_states p ON p.server = s.name
	  LEFT JOIN LATERAL millrace.provider_limits(s.oid, '') l ON true
	  LEFT JOIN LATERAL millrace.provider_limits(s.oid, COALESCE(r.tenant, '')) w ON true;
COMMENT ON VIEW millrace.stat_providers IS
	'one row a provider, and one for each of its tenants of the last hour: what it does and why not, how much of its limits is used, what became of the last hour''s attempts, tokens, cost, how long answers took';
COMMENT ON COLUMN millrace.stat_providers.tenant IS 'null: the provider as a whole';
COMMENT ON COLUMN millrace.stat_providers.state IS 'running, paused (since, for that reason), open or half-open (breaker), held (it asked to be left alone)';
COMMENT ON COLUMN millrace.stat_providers.until IS 'no call before: the breaker is open, or the server said Retry-After';
COMMENT ON COLUMN millrace.stat_providers.breaker IS 'closed; open, after 5 ill calls in a row or 10 of 20; half-open: one call finds out; null: nothing was called since the server''s start';
COMMENT ON COLUMN millrace.stat_providers.rate IS 'part of the limits that is used: halved by overload, doubles every 30 s';
COMMENT ON COLUMN millrace.stat_providers.calls IS 'under way, of all roles';
COMMENT ON COLUMN millrace.stat_providers.requests IS 'begun in the last 65 s, which is what is held against the limit of a minute; of a tenant only where tenants have limits';
COMMENT ON COLUMN millrace.stat_providers.tokens IS 'of these: what they took, or are likely to take';
COMMENT ON COLUMN millrace.stat_providers.cost IS 'of these tokens, by option cost_per_1k';
COMMENT ON COLUMN millrace.stat_providers.attempts IS 'of the last hour, as all that follows';
COMMENT ON COLUMN millrace.stat_providers.failed IS 'number of attempts by class of error';
COMMENT ON COLUMN millrace.stat_providers.p95_ms IS 'milliseconds within which 95 % of answers came';
GRANT SELECT ON millrace.stat_providers TO millrace_admin, millrace_monitor;

SELECT pg_catalog.pg_extension_config_dump('millrace.provider_states', 'WHERE paused');
