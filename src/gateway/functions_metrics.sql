-- gateway: metrics.  The figures are the views millrace.metric_* (views_metrics.sql) and the histograms and counters of shared memory.

CREATE FUNCTION millrace.metric_series(OUT name text, OUT labels jsonb, OUT count bigint, OUT sum double precision,
		OUT bounds double precision[], OUT buckets bigint[]) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED ROWS 100
	AS 'MODULE_PATHNAME', 'millrace_metric_series';
COMMENT ON FUNCTION millrace.metric_series() IS
	'histograms and counters of this database since the server started: seconds observed (sum), upper ends of buckets in seconds, and how many were in each, the last one without an end; a counter has its sum alone';

CREATE FUNCTION millrace.metric_room(OUT series int, OUT room int, OUT lost bigint) RETURNS record
	LANGUAGE c VOLATILE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'millrace_metric_room';
COMMENT ON FUNCTION millrace.metric_room() IS
	'histograms and counters in use, in all databases; room for them (millrace.max_metric_series); and observations that found none';

-- As Prometheus estimates it: the values of a bucket are spread evenly over it.
CREATE FUNCTION millrace.bucket_quantile(q double precision, bounds double precision[], buckets bigint[]) RETURNS double precision
	LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
	WITH bucket AS (
		SELECT b.n, b.count, coalesce(bounds[b.n - 1], 0) AS low, bounds[b.n] AS high, sum(b.count) OVER (ORDER BY b.n) AS upto, sum(b.count) OVER () AS total
		  FROM unnest(buckets) WITH ORDINALITY b (count, n))
	SELECT CASE WHEN b.high IS NULL THEN b.low ELSE b.low + (b.high - b.low) * (q * b.total - (b.upto - b.count)) / b.count END
	  FROM bucket b WHERE b.count > 0 AND b.upto >= q * b.total ORDER BY b.n LIMIT 1
$$;
COMMENT ON FUNCTION millrace.bucket_quantile(double precision, double precision[], bigint[]) IS
	'quantile of a histogram of millrace.metric_series(), as Prometheus'' histogram_quantile() estimates it';

-- Per cent of its blocks that metric_task looks at: some 2 MB of them.
CREATE FUNCTION millrace.task_queue_sample() RETURNS real
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
	SELECT least(100, 100.0 * 2097152 / greatest(sum(pg_relation_size(i.inhrelid)), 1))::real FROM pg_inherits i WHERE i.inhparent = 'millrace.task_queue'::regclass
$$;
COMMENT ON FUNCTION millrace.task_queue_sample() IS 'per cent of the task queue that view metric_task counts; all of it until it is large';

CREATE FUNCTION millrace.pipeline_figures(OUT pipeline text, OUT kind text, OUT figure text, OUT value bigint) RETURNS SETOF record
	LANGUAGE c VOLATILE PARALLEL UNSAFE ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_pipeline_figures';
COMMENT ON FUNCTION millrace.pipeline_figures() IS
	'what went wrong in each pipeline and is still there, read as its owner: failures (10000: that many or more) and failures_1h, those of the last hour; of data sets findings of their last audits that are not waived: blocking, warning, info; unreadable: its tables are locked, or not what they were';

CREATE FUNCTION millrace.metrics(pipeline text DEFAULT NULL) RETURNS text
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_metrics';
COMMENT ON FUNCTION millrace.metrics(text) IS 'all metrics of this database, or those of one pipeline, in Prometheus'' text format';

CREATE FUNCTION millrace.metrics_json(pipeline text DEFAULT NULL) RETURNS jsonb
	LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	stages jsonb;
	processed bigint;
	mean double precision;
	hit_rate double precision;
	failures bigint;
BEGIN
	SELECT jsonb_object_agg(s.key, s.of_pipeline) INTO stages
	  FROM (SELECT t.pipeline AS key, jsonb_object_agg(t.stage, jsonb_build_object('count', t.count, 'average_ms', round(t.mean_ms::numeric, 3),
					'p50_ms', round(t.p50_ms::numeric, 3), 'p95_ms', round(t.p95_ms::numeric, 3), 'p99_ms', round(t.p99_ms::numeric, 3))) AS of_pipeline
			  FROM millrace.stat_stages t WHERE metrics_json.pipeline IS NULL OR t.pipeline = metrics_json.pipeline GROUP BY t.pipeline) s;
	SELECT coalesce(sum(t.count), 0), sum(t.count * t.mean_ms) / nullif(sum(t.count), 0) INTO processed, mean
	  FROM millrace.stat_stages t WHERE t.stage = 'total' AND (metrics_json.pipeline IS NULL OR t.pipeline = metrics_json.pipeline);
	SELECT sum(c.exact_hits_total + c.semantic_hits_total) / nullif(sum(c.exact_hits_total + c.semantic_hits_total + c.misses_total), 0) INTO hit_rate
	  FROM millrace.metric_cache c WHERE metrics_json.pipeline IS NULL OR c.pipeline = metrics_json.pipeline;
	SELECT coalesce(sum(f.failures), 0) INTO failures FROM millrace.metric_pipeline f WHERE metrics_json.pipeline IS NULL OR f.pipeline = metrics_json.pipeline;
	RETURN jsonb_build_object('tasks_processed', processed, 'cache_hit_rate', round(coalesce(hit_rate, 0)::numeric, 4),
		'average_latency_ms', round(coalesce(mean, 0)::numeric, 3), 'failures', failures, 'stages', coalesce(stages, '{}'),
		'since', pg_postmaster_start_time());
END
$$;
COMMENT ON FUNCTION millrace.metrics_json(text) IS
	'a few figures of this database, or of one pipeline, since the server started: tasks_processed (stage total), cache_hit_rate, average_latency_ms, and each stage';

-- For GET /metrics: Prometheus' text, or JSON to who asks for it.  The owner of a pipeline may see its metrics without being a monitor.
CREATE FUNCTION millrace.http_metrics(pipeline text DEFAULT NULL) RETURNS millrace.http_response
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	caller constant name := millrace.request_role();
	accepts constant text := lower(coalesce(nullif(current_setting('request.headers', true), '')::jsonb ->> 'accept', ''));
	listener constant text := nullif(current_setting('request.headers', true), '')::jsonb ->> ':pipeline';
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname IN ('millrace_monitor', 'millrace_admin') AND pg_has_role(caller, r.oid, 'USAGE'))
		AND NOT EXISTS (SELECT FROM millrace.pipelines p JOIN pg_namespace n ON n.nspname = p.name
						 WHERE p.name = http_metrics.pipeline AND pg_has_role(caller, n.nspowner, 'USAGE')) THEN
		RAISE EXCEPTION 'metrics are for members of role millrace_monitor, and those of a pipeline for its owner' USING ERRCODE = 'insufficient_privilege';
	END IF;
	IF strpos(accepts, 'application/json') > 0 AND strpos(accepts, 'text/plain') = 0 AND strpos(accepts, 'openmetrics') = 0 THEN
		RETURN millrace.respond(200, millrace.metrics_json(coalesce(pipeline, listener)));
	END IF;
	RETURN millrace.respond_bytes(200, 'text/plain; version=0.0.4; charset=utf-8',
		convert_to(millrace.metrics(coalesce(pipeline, listener)), 'UTF8'));
END
$$;
COMMENT ON FUNCTION millrace.http_metrics(text) IS 'metrics in Prometheus'' text format, or as JSON with Accept: application/json';

REVOKE EXECUTE ON FUNCTION millrace.metric_series(), millrace.metric_room(), millrace.task_queue_sample(), millrace.pipeline_figures(),
	millrace.metrics(text), millrace.metrics_json(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.metric_series(), millrace.metric_room(), millrace.task_queue_sample(), millrace.pipeline_figures(),
	millrace.metrics(text), millrace.metrics_json(text) TO millrace_admin, millrace_monitor;

INSERT INTO millrace.routes (method, path, function, role, read_only, builtin, summary, responses) VALUES
	('GET', '/metrics', 'millrace.http_metrics(text)', 'millrace_monitor', true, true, 'metrics in Prometheus'' text format, or as JSON with Accept: application/json',
	 '{"200": {"description": "metrics", "content_type": "text/plain", "schema": {"type": "string"}}}');
