-- gateway: metrics, a view for each kind of thing
--
-- millrace.metrics() and contrib/prometheus/queries.yaml read these.  A metric is called millrace_<view>_<column>, without the view's
-- "metric_"; columns of type text are labels, NULL is left out, names in _total are counters and all others gauges; help is the
-- column's comment.  A scrape must stay cheap: totals that somebody keeps, and counts that end at 10000.

CREATE VIEW millrace.metric_build AS
	SELECT millrace.version() AS version, pg_catalog.current_setting('server_version') AS postgresql, 1 AS info;
COMMENT ON VIEW millrace.metric_build IS 'metrics: the extension';
COMMENT ON COLUMN millrace.metric_build.info IS 'Always 1; version of the library and of PostgreSQL.';

CREATE VIEW millrace.metric_series_room AS
	SELECT r.series AS used, r.room AS "limit", r.lost AS lost_total FROM millrace.metric_room() r;
COMMENT ON VIEW millrace.metric_series_room IS 'metrics: histograms and counters of shared memory';
COMMENT ON COLUMN millrace.metric_series_room.used IS 'Histograms and counters in use, in all databases.';
COMMENT ON COLUMN millrace.metric_series_room."limit" IS 'Setting millrace.max_metric_series.';
COMMENT ON COLUMN millrace.metric_series_room.lost_total IS 'Observations that found no room.';

CREATE VIEW millrace.metric_worker AS
	SELECT w.kind, w.name, w.worker::text AS worker, (w.state NOT IN ('waiting', 'stopping'))::int AS up, g.resident_bytes
	FROM millrace.worker_slots() w LEFT JOIN millrace.gauges() g ON g.pid = w.pid AND g.kind = w.kind;
COMMENT ON VIEW millrace.metric_worker IS 'metrics: worker processes';
COMMENT ON COLUMN millrace.metric_worker.up IS '1: the process runs, or is being started; 0: it waits for something, or ends.';
COMMENT ON COLUMN millrace.metric_worker.resident_bytes IS 'Memory of the process, without what it shares with others.';

CREATE VIEW millrace.metric_source AS
	SELECT s.name AS source, p.name AS pipeline, (s.state = 'running')::int AS up, (s.state = 'halted')::int AS halted,
		   COALESCE(s.workers_now, 1) AS workers, e.errors AS errors_total, d.waiting AS dead_letters, g.queued_bytes, g.batch_bytes
	FROM millrace.sources s
	LEFT JOIN millrace.pipelines p ON p.name = (pg_catalog.parse_ident(s.target))[1]
	LEFT JOIN LATERAL (SELECT pg_catalog.sum(w.errors)::bigint AS errors FROM millrace.source_workers w WHERE w.source = s.name) e ON true
	LEFT JOIN LATERAL (SELECT pg_catalog.count(*) AS waiting FROM (SELECT FROM millrace.dead_letters l WHERE l.source = s.name LIMIT 10000) l) d ON true
	LEFT JOIN (SELECT q.name, pg_catalog.sum(q.queued_bytes)::bigint AS queued_bytes, pg_catalog.sum(q.batch_bytes)::bigint AS batch_bytes
			   FROM millrace.gauges() q WHERE q.kind = 'source' GROUP BY q.name) g ON g.name = s.name
	WHERE s.state NOT IN ('finished', 'cancelled');
COMMENT ON VIEW millrace.metric_source IS 'metrics: sources';
COMMENT ON COLUMN millrace.metric_source.up IS '1: it is meant to run; 0: it is paused, or halted itself.';
COMMENT ON COLUMN millrace.metric_source.halted IS '1: it halted itself, and needs somebody to look at it.';
COMMENT ON COLUMN millrace.metric_source.workers IS 'Processes that share its partitions.';
COMMENT ON COLUMN millrace.metric_source.errors_total IS 'Errors that were waited out; those of messages are dead letters.';
COMMENT ON COLUMN millrace.metric_source.dead_letters IS 'Dead letters that wait to be redriven or deleted; 10000: that many or more.';
COMMENT ON COLUMN millrace.metric_source.queued_bytes IS 'Bytes of messages that its Kafka clients keep ready.';
COMMENT ON COLUMN millrace.metric_source.batch_bytes IS 'Bytes of the batches in progress, or of the last ones.';

CREATE VIEW millrace.metric_partition AS
	SELECT o.source, p.name AS pipeline, o.partition::text AS partition, o.rows AS rows_total, o.bytes AS bytes_total, o.batches AS batches_total,
		   o.dead AS dead_total, o.skipped AS skipped_total, o.deleted AS deleted_total,
		   GREATEST(COALESCE(o.to_offset, o.high_watermark) - o.next_offset, 0) AS messages_behind,
		   CASE WHEN COALESCE(o.to_offset, o.high_watermark) > o.next_offset
				THEN GREATEST(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - o.last_time), 0)::double precision ELSE 0 END AS lag_seconds,
		   EXTRACT(epoch FROM o.last_batch_at)::double precision AS last_batch_timestamp_seconds
	FROM millrace.source_offsets o
	JOIN millrace.sources s ON s.name = o.source AND s.state NOT IN ('finished', 'cancelled')
	LEFT JOIN millrace.pipelines p ON p.name = (pg_catalog.parse_ident(s.target))[1];
COMMENT ON VIEW millrace.metric_partition IS 'metrics: partitions of sources';
COMMENT ON COLUMN millrace.metric_partition.rows_total IS 'Rows inserted.';
COMMENT ON COLUMN millrace.metric_partition.bytes_total IS 'Bytes of keys and values read.';
COMMENT ON COLUMN millrace.metric_partition.batches_total IS 'Batches committed.';
COMMENT ON COLUMN millrace.metric_partition.dead_total IS 'Messages that became dead letters.';
COMMENT ON COLUMN millrace.metric_partition.skipped_total IS 'Messages passed over.';
COMMENT ON COLUMN millrace.metric_partition.deleted_total IS 'Messages that deleted a row.';
COMMENT ON COLUMN millrace.metric_partition.messages_behind IS 'Messages from its offset to the end of the partition.';
COMMENT ON COLUMN millrace.metric_partition.lag_seconds IS 'Time since the last message read was sent, where others wait behind it; else 0.';
COMMENT ON COLUMN millrace.metric_partition.last_batch_timestamp_seconds IS 'When its last batch was committed.';

-- The oldest transactions first: an index gives them, however many have left already.
CREATE VIEW millrace.metric_outbox AS
	SELECT o.server, (o.state = 'running')::int AS up, (o.state = 'halted')::int AS halted, w.waiting, w.oldest_seconds,
		   p.messages AS messages_total, p.bytes AS bytes_total, p.batch AS batches_total, p.dead AS dead_total, p.errors AS errors_total,
		   d.waiting AS dead_letters, EXTRACT(epoch FROM p.last_batch_at)::double precision AS last_batch_timestamp_seconds
	FROM millrace.outboxes o
	LEFT JOIN millrace.outbox_progress p ON p.server = o.server
	LEFT JOIN LATERAL (
		SELECT pg_catalog.count(*) AS waiting,
			   COALESCE(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.min(q.at)), 0)::double precision AS oldest_seconds
		FROM ((SELECT m.id, m.xid, m.at FROM millrace.outbox m
			   WHERE m.server = o.server AND m.xid >= pg_catalog.pg_snapshot_xmax(p.done) ORDER BY m.xid LIMIT 10000)
			  UNION ALL
			  (SELECT m.id, m.xid, m.at FROM millrace.outbox m
			   WHERE m.server = o.server AND m.xid = ANY (ARRAY(SELECT pg_catalog.pg_snapshot_xip(p.done))) LIMIT 10000)) q
		WHERE (p.upto IS NULL OR q.id > p.after_id OR NOT pg_catalog.pg_visible_in_snapshot(q.xid, p.upto))
		  AND NOT EXISTS (SELECT FROM millrace.outbox_dead_letters d WHERE d.server = o.server AND d.id = q.id AND NOT d.shortened)) w ON true
	LEFT JOIN LATERAL (SELECT pg_catalog.count(*) AS waiting
					   FROM (SELECT FROM millrace.outbox_dead_letters l WHERE l.server = o.server LIMIT 10000) l) d ON true;
COMMENT ON VIEW millrace.metric_outbox IS 'metrics: outboxes';
COMMENT ON COLUMN millrace.metric_outbox.up IS '1: it is meant to run; 0: it is paused, or halted itself.';
COMMENT ON COLUMN millrace.metric_outbox.halted IS '1: it halted itself, and needs somebody to look at it.';
COMMENT ON COLUMN millrace.metric_outbox.waiting IS 'Messages committed that have not left; 10000: that many or more.';
COMMENT ON COLUMN millrace.metric_outbox.oldest_seconds IS 'How long the oldest of them has waited.';
COMMENT ON COLUMN millrace.metric_outbox.messages_total IS 'Messages that have left.';
COMMENT ON COLUMN millrace.metric_outbox.bytes_total IS 'Bytes of their keys and values.';
COMMENT ON COLUMN millrace.metric_outbox.batches_total IS 'Kafka transactions committed.';
COMMENT ON COLUMN millrace.metric_outbox.dead_total IS 'Messages that the brokers refused.';
COMMENT ON COLUMN millrace.metric_outbox.errors_total IS 'Errors met.';
COMMENT ON COLUMN millrace.metric_outbox.dead_letters IS 'Refused messages that are still kept; 10000: that many or more.';
COMMENT ON COLUMN millrace.metric_outbox.last_batch_timestamp_seconds IS 'When its last batch was confirmed.';

CREATE VIEW millrace.metric_topic AS
	SELECT t.server, t.state, pg_catalog.count(*) AS topics FROM millrace.topics t GROUP BY t.server, t.state;
COMMENT ON VIEW millrace.metric_topic IS 'metrics: topics that are to be there';
COMMENT ON COLUMN millrace.metric_topic.topics IS 'Topics that create_topic() asked for, by state.';

CREATE VIEW millrace.metric_http_queue AS
	SELECT q.server, q.owner, (q.state = 'running')::int AS up, r.waiting, p.succeeded AS succeeded_total, p.failed AS failed_total,
		   p.undelivered AS undelivered_total, p.retries AS retries_total, p.bytes_in AS received_bytes_total, p.bytes_out AS sent_bytes_total,
		   p.latency_sum_us / 1e6::double precision AS seconds_total
	FROM millrace.http_queues q
	JOIN millrace.http_progress p ON p.queue = q.id
	LEFT JOIN LATERAL (SELECT pg_catalog.count(*) AS waiting FROM (SELECT FROM millrace.http_requests m WHERE m.queue = q.id LIMIT 10000) m) r ON true;
COMMENT ON VIEW millrace.metric_http_queue IS 'metrics: requests to object stores';
COMMENT ON COLUMN millrace.metric_http_queue.up IS '1: it is meant to run; 0: it is paused.';
COMMENT ON COLUMN millrace.metric_http_queue.waiting IS 'Requests that have not ended; 10000: that many or more.';
COMMENT ON COLUMN millrace.metric_http_queue.succeeded_total IS 'Requests that succeeded.';
COMMENT ON COLUMN millrace.metric_http_queue.failed_total IS 'Requests that failed for good.';
COMMENT ON COLUMN millrace.metric_http_queue.undelivered_total IS 'Requests whose result could not be delivered.';
COMMENT ON COLUMN millrace.metric_http_queue.retries_total IS 'Attempts that another followed.';
COMMENT ON COLUMN millrace.metric_http_queue.received_bytes_total IS 'Bytes received.';
COMMENT ON COLUMN millrace.metric_http_queue.sent_bytes_total IS 'Bytes sent.';
COMMENT ON COLUMN millrace.metric_http_queue.seconds_total IS 'Time until answers.';

CREATE VIEW millrace.metric_task AS
	SELECT n.lane, n.name AS queue, t.kind, p.name AS pipeline,
		   pg_catalog.round(100 / x.percent * pg_catalog.count(*) FILTER (WHERE t.lease IS NULL AND t.attempts = 0 AND (t.due_at IS NULL OR t.due_at <= millrace.task_now()))) AS waiting,
		   pg_catalog.round(100 / x.percent * pg_catalog.count(*) FILTER (WHERE t.lease IS NULL AND t.attempts = 0 AND t.due_at > millrace.task_now())) AS delayed,
		   pg_catalog.round(100 / x.percent * pg_catalog.count(*) FILTER (WHERE t.lease IS NULL AND t.attempts > 0)) AS retrying,
		   pg_catalog.round(100 / x.percent * pg_catalog.count(*) FILTER (WHERE t.lease IS NOT NULL)) AS running,
		   COALESCE(EXTRACT(epoch FROM pg_catalog.clock_timestamp() - pg_catalog.min(t.created_at) FILTER (WHERE t.lease IS NULL)), 0)::double precision AS oldest_seconds
	FROM millrace.task_queue t TABLESAMPLE SYSTEM (millrace.task_queue_sample())
	JOIN millrace.task_queues n ON n.id = t.queue
	CROSS JOIN (SELECT millrace.task_queue_sample()::double precision AS percent) x
	LEFT JOIN millrace.pipelines p ON pg_catalog.starts_with(t.kind, p.name || '.')
	GROUP BY n.lane, n.name, t.kind, p.name, x.percent;
COMMENT ON VIEW millrace.metric_task IS 'metrics: tasks that have not ended; of a long queue an estimate';
COMMENT ON COLUMN millrace.metric_task.waiting IS 'Tasks that could begin.';
COMMENT ON COLUMN millrace.metric_task.delayed IS 'Tasks that are to begin later.';
COMMENT ON COLUMN millrace.metric_task.retrying IS 'Tasks that failed and will be tried again.';
COMMENT ON COLUMN millrace.metric_task.running IS 'Tasks that run.';
COMMENT ON COLUMN millrace.metric_task.oldest_seconds IS 'Since when the oldest of those that do not run is there.';

CREATE VIEW millrace.metric_task_pool AS
	SELECT t.owner, (t.state = 'running')::int AS up FROM millrace.task_pools t;
COMMENT ON VIEW millrace.metric_task_pool IS 'metrics: roles'' tasks';
COMMENT ON COLUMN millrace.metric_task_pool.up IS '1: tasks of the role are done; 0: they are paused.';

CREATE VIEW millrace.metric_provider AS
	SELECT s.srvname::text AS provider, (NOT COALESCE(p.paused, false))::int AS up, (l.breaker = 'open')::int AS breaker_open, l.calls,
		   l.rate, l.requests AS requests_last_minute, l.tokens AS tokens_last_minute
	FROM pg_catalog.pg_foreign_server s
	JOIN pg_catalog.pg_foreign_data_wrapper w ON w.oid = s.srvfdw AND w.fdwname = 'millrace_http'
	LEFT JOIN millrace.provider_states p ON p.server = s.srvname
	CROSS JOIN LATERAL millrace.provider_limits(s.oid, '') l
	WHERE NOT s.srvoptions @> '{api=s3}';
COMMENT ON VIEW millrace.metric_provider IS 'metrics: providers of language models';
COMMENT ON COLUMN millrace.metric_provider.up IS '1: calls go there; 0: it is paused.';
COMMENT ON COLUMN millrace.metric_provider.breaker_open IS '1: it failed so often that nothing is sent for a while.';
COMMENT ON COLUMN millrace.metric_provider.calls IS 'Calls under way.';
COMMENT ON COLUMN millrace.metric_provider.rate IS 'Share of its limits that is used at most, after overload.';
COMMENT ON COLUMN millrace.metric_provider.requests_last_minute IS 'Calls begun within a minute.';
COMMENT ON COLUMN millrace.metric_provider.tokens_last_minute IS 'Tokens of calls begun within a minute.';

CREATE VIEW millrace.metric_cache AS
	SELECT c.name AS cache, p.name AS pipeline, COALESCE(s.exact, 0) AS exact_hits_total, COALESCE(s.semantic, 0) AS semantic_hits_total,
		   COALESCE(s.missed, 0) AS misses_total, COALESCE(s.guarded, 0) AS guarded_total, COALESCE(s.put, 0) AS put_total,
		   COALESCE(s.evicted, 0) AS evicted_total, COALESCE(s.cost_saved, 0) AS cost_saved_total,
		   COALESCE(s.ms_saved, 0) / 1000 AS seconds_saved_total, COALESCE(s.lookup_ms, 0) / 1000 AS lookup_seconds_total
	FROM millrace.caches c
	LEFT JOIN millrace.pipelines p ON p.name = c.name
	LEFT JOIN millrace.cache_statistics() s ON s.cache = c.id;
COMMENT ON VIEW millrace.metric_cache IS 'metrics: semantic caches';
COMMENT ON COLUMN millrace.metric_cache.exact_hits_total IS 'Questions that had been asked in the same words.';
COMMENT ON COLUMN millrace.metric_cache.semantic_hits_total IS 'Questions that had been asked in other words.';
COMMENT ON COLUMN millrace.metric_cache.misses_total IS 'Questions without an answer in the cache.';
COMMENT ON COLUMN millrace.metric_cache.guarded_total IS 'Near answers that were not given, for they might mean something else.';
COMMENT ON COLUMN millrace.metric_cache.put_total IS 'Answers stored.';
COMMENT ON COLUMN millrace.metric_cache.evicted_total IS 'Answers that made room.';
COMMENT ON COLUMN millrace.metric_cache.cost_saved_total IS 'What the answers given had cost.';
COMMENT ON COLUMN millrace.metric_cache.seconds_saved_total IS 'Time that the answers given had taken.';
COMMENT ON COLUMN millrace.metric_cache.lookup_seconds_total IS 'Time that lookups took.';

CREATE VIEW millrace.metric_model AS
	SELECT s.name AS model, s.version::text AS version, s.calls AS calls_total, s.rows AS rows_total, s.errors AS errors_total, s.seconds AS run_seconds_total,
		   s.cpu_seconds AS cpu_seconds_total, s.loads AS loads_total, s.calls - LEAST(s.loads, s.calls) AS cache_hits_total, s.builds AS builds_total,
		   s.file_bytes, s.peak_bytes
	FROM millrace.model_statistics() s;
COMMENT ON VIEW millrace.metric_model IS 'metrics: models';
COMMENT ON COLUMN millrace.metric_model.calls_total IS 'Calls.';
COMMENT ON COLUMN millrace.metric_model.rows_total IS 'Rows, images or texts answered.';
COMMENT ON COLUMN millrace.metric_model.errors_total IS 'Calls that failed, bad inputs too.';
COMMENT ON COLUMN millrace.metric_model.run_seconds_total IS 'Time in its kernels.';
COMMENT ON COLUMN millrace.metric_model.cpu_seconds_total IS 'CPU time of it.';
COMMENT ON COLUMN millrace.metric_model.loads_total IS 'Sessions that mapped it.';
COMMENT ON COLUMN millrace.metric_model.cache_hits_total IS 'Calls that found it mapped.';
COMMENT ON COLUMN millrace.metric_model.builds_total IS 'Times that it was compiled.';
COMMENT ON COLUMN millrace.metric_model.file_bytes IS 'Bytes of its compiled file, which all sessions share.';
COMMENT ON COLUMN millrace.metric_model.peak_bytes IS 'Most bytes that the file and a run took.';

CREATE VIEW millrace.metric_monitor AS
	SELECT m.name AS monitor, p.name AS pipeline, d.alarms, EXTRACT(epoch FROM d.window_end)::double precision AS window_end_timestamp_seconds
	FROM millrace.monitors m
	LEFT JOIN millrace.pipelines p ON p.name = m.name
	LEFT JOIN LATERAL (SELECT w.window_end, pg_catalog.count(*) FILTER (WHERE w.alarm) AS alarms FROM millrace.drift w
						WHERE w.monitor = m.name AND w.window_no = (SELECT pg_catalog.max(n.window_no) FROM millrace.drift n WHERE n.monitor = m.name)
						GROUP BY w.window_end) d ON true;
COMMENT ON VIEW millrace.metric_monitor IS 'metrics: drift';
COMMENT ON COLUMN millrace.metric_monitor.alarms IS 'Columns that had drifted in the last window.';
COMMENT ON COLUMN millrace.metric_monitor.window_end_timestamp_seconds IS 'When the last window that was looked at ended.';

CREATE VIEW millrace.metric_pipeline AS
	SELECT p.name AS pipeline, p.kind, 1 AS info, f.failures, f.blocking AS findings_blocking, f.warning AS findings_warning, f.info AS findings_info,
		   COALESCE(f.unreadable, 0) AS unreadable
	FROM millrace.pipelines p
	LEFT JOIN (SELECT g.pipeline, pg_catalog.max(g.value) FILTER (WHERE g.figure = 'failures') AS failures,
					  pg_catalog.max(g.value) FILTER (WHERE g.figure = 'blocking') AS blocking,
					  pg_catalog.max(g.value) FILTER (WHERE g.figure = 'warning') AS warning,
					  pg_catalog.max(g.value) FILTER (WHERE g.figure = 'info') AS info,
					  pg_catalog.max(g.value) FILTER (WHERE g.figure = 'unreadable') AS unreadable
			   FROM millrace.pipeline_figures() g GROUP BY g.pipeline) f ON f.pipeline = p.name;
COMMENT ON VIEW millrace.metric_pipeline IS 'metrics: pipelines';
COMMENT ON COLUMN millrace.metric_pipeline.info IS 'Always 1.';
COMMENT ON COLUMN millrace.metric_pipeline.failures IS 'What could not be done and is still in the pipeline''s table of failures; 10000: that many or more.';
COMMENT ON COLUMN millrace.metric_pipeline.unreadable IS '1: its tables could not be read: locked, or not what they were.';
COMMENT ON COLUMN millrace.metric_pipeline.findings_blocking IS 'Blocking findings of the last audits that are not waived.';
COMMENT ON COLUMN millrace.metric_pipeline.findings_warning IS 'Warnings of the last audits that are not waived.';
COMMENT ON COLUMN millrace.metric_pipeline.findings_info IS 'Notes of the last audits that are not waived.';

CREATE VIEW millrace.metric_failed_request AS
	SELECT f.server, f.stage, pg_catalog.count(*) AS requests FROM (SELECT h.server, h.stage FROM millrace.http_failures h LIMIT 10000) f GROUP BY f.server, f.stage;
COMMENT ON VIEW millrace.metric_failed_request IS 'metrics: requests to object stores that failed for good';
COMMENT ON COLUMN millrace.metric_failed_request.requests IS 'Failed requests that are still kept, 10000 of them at most: of the request itself, or of its delivery.';

GRANT SELECT ON millrace.metric_build, millrace.metric_series_room, millrace.metric_worker, millrace.metric_source, millrace.metric_partition,
	millrace.metric_outbox, millrace.metric_topic, millrace.metric_http_queue, millrace.metric_task, millrace.metric_task_pool, millrace.metric_provider,
	millrace.metric_cache, millrace.metric_model, millrace.metric_monitor, millrace.metric_pipeline, millrace.metric_failed_request TO millrace_admin, millrace_monitor;

-- For people and dashboards.
CREATE VIEW millrace.stat_stages AS
	SELECT s.labels ->> 'pipeline' AS pipeline, s.labels ->> 'stage' AS stage, s.count, 1000 * s.sum / NULLIF(s.count, 0) AS mean_ms,
		   1000 * millrace.bucket_quantile(0.5, s.bounds, s.buckets) AS p50_ms, 1000 * millrace.bucket_quantile(0.95, s.bounds, s.buckets) AS p95_ms,
		   1000 * millrace.bucket_quantile(0.99, s.bounds, s.buckets) AS p99_ms
	FROM millrace.metric_series() s WHERE s.name = 'millrace_stage_seconds';
COMMENT ON VIEW millrace.stat_stages IS
	'what each stage of each pipeline took since the server started, of work that was committed; percentiles are estimates from a histogram''s buckets';
GRANT SELECT ON millrace.stat_stages TO millrace_admin, millrace_monitor;

CREATE VIEW millrace.stat_gateway AS
	SELECT s.labels ->> 'route' AS route, s.labels ->> 'method' AS method, s.labels ->> 'status' AS status, s.count AS requests,
		   1000 * s.sum / NULLIF(s.count, 0) AS mean_ms, 1000 * millrace.bucket_quantile(0.5, s.bounds, s.buckets) AS p50_ms,
		   1000 * millrace.bucket_quantile(0.95, s.bounds, s.buckets) AS p95_ms, 1000 * millrace.bucket_quantile(0.99, s.bounds, s.buckets) AS p99_ms
	FROM millrace.metric_series() s WHERE s.name = 'millrace_http_request_seconds';
COMMENT ON VIEW millrace.stat_gateway IS
	'HTTP requests by pattern of the route, method and class of status since the server started; percentiles are estimates from a histogram''s buckets';

CREATE VIEW millrace.stat_gateway_events AS
	SELECT s.labels ->> 'event' AS event, s.sum::bigint AS count FROM millrace.metric_series() s WHERE s.name = 'millrace_gateway_events_total';
COMMENT ON VIEW millrace.stat_gateway_events IS 'what happened to connections and requests of the gateway since the server started';
GRANT SELECT ON millrace.stat_gateway, millrace.stat_gateway_events TO millrace_admin, millrace_monitor;
