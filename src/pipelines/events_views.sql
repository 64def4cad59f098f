-- Pipeline "events", views: what is waited for, what came of it, what it cost.
--
-- Run behind events_work.sql, and again by upgrade_pipeline().

CREATE OR REPLACE VIEW @schema@.tasks AS
	SELECT r.event_id, r.type, 'succeeded' AS state, r.origin, NULL AS class, NULL AS message, NULL::int AS attempts, r.task, r.finished_at
	FROM @schema@.results r
	UNION ALL
	SELECT f.event_id, f.type, f.state, NULL, f.class, f.message, f.attempts, f.task, f.failed_at
	FROM @schema@.failures f
	UNION ALL
	SELECT e.value::bigint, y.value, t.state, 'local', t.class, t.error, t.attempts, t.id, NULL
	FROM millrace.tasks t, jsonb_array_elements_text(t.payload -> 'events') e, jsonb_array_elements_text(t.payload -> 'types') y
	WHERE t.kind = @schema_literal@ || '.work' AND t.state IN ('waiting', 'delayed', 'retrying', 'running')
	UNION ALL
	-- Other tags are no numbers, and conditions are evaluated in any order.
	SELECT CASE WHEN t.deliver = format('%I.%I', @schema_literal@, 'deliver') THEN split_part(t.tag, ':', 1)::bigint END, split_part(t.tag, ':', 2),
		t.state, 'provider', t.class, t.error, t.attempts, t.id, NULL
	FROM millrace.tasks t
	WHERE t.deliver = format('%I.%I', @schema_literal@, 'deliver') AND t.state IN ('waiting', 'delayed', 'retrying', 'running');
COMMENT ON VIEW @schema@.tasks IS 'every event and type with its state: waiting, delayed, retrying, running, succeeded, failed, cancelled, expired';

CREATE OR REPLACE VIEW @schema@.tasks_by_state AS
	SELECT t.type, count(*) FILTER (WHERE t.state IN ('waiting', 'delayed')) AS waiting, count(*) FILTER (WHERE t.state = 'retrying') AS retrying,
		count(*) FILTER (WHERE t.state = 'running') AS running, count(*) FILTER (WHERE t.state = 'succeeded') AS succeeded,
		count(*) FILTER (WHERE t.state IN ('failed', 'cancelled', 'expired')) AS failed, count(*) AS total
	FROM @schema@.tasks t GROUP BY t.type;
COMMENT ON VIEW @schema@.tasks_by_state IS 'how many tasks of each type are in which state';

CREATE OR REPLACE VIEW @schema@.latency AS
	SELECT s.type, s.stage, count(*) AS tasks,
		round(percentile_cont(0.5) WITHIN GROUP (ORDER BY s.ms)::numeric, 2) AS p50_ms,
		round(percentile_cont(0.95) WITHIN GROUP (ORDER BY s.ms)::numeric, 2) AS p95_ms,
		round(percentile_cont(0.99) WITHIN GROUP (ORDER BY s.ms)::numeric, 2) AS p99_ms
	FROM (SELECT r.type, 'event to result' AS stage, 1000 * EXTRACT(epoch FROM r.finished_at - e.received_at)::float8 AS ms
		  FROM @schema@.results r JOIN @schema@.events e USING (event_id)
		  UNION ALL
		  SELECT r.type, 'message to result', 1000 * EXTRACT(epoch FROM r.finished_at - e.source_time)::float8
		  FROM @schema@.results r JOIN @schema@.events e USING (event_id) WHERE e.source_time IS NOT NULL
		  UNION ALL
		  SELECT r.type, 'work, ' || r.origin, r.took_ms FROM @schema@.results r WHERE r.took_ms IS NOT NULL) s
	GROUP BY s.type, s.stage;
COMMENT ON VIEW @schema@.latency IS 'milliseconds by type: from the row (from the Kafka message''s timestamp) to the result, and of the work itself';

CREATE OR REPLACE VIEW @schema@.throughput AS
	SELECT date_trunc('minute', r.finished_at) AS minute, r.type, count(*) AS results,
		round(count(*) / GREATEST(EXTRACT(epoch FROM max(r.finished_at) - min(r.finished_at)), 1), 1) AS per_second
	FROM @schema@.results r GROUP BY 1, 2;
COMMENT ON VIEW @schema@.throughput IS 'results per minute and type; per_second over the active part of that minute';

CREATE OR REPLACE VIEW @schema@.cache_efficiency AS
	SELECT r.type, count(*) AS asked, count(*) FILTER (WHERE r.hit = 'exact') AS exact_hits, count(*) FILTER (WHERE r.hit = 'semantic') AS semantic_hits,
		round(100.0 * count(r.hit) / count(*), 1) AS hit_percent, round(sum(r.cost), 6) AS spent, round(sum(r.saved), 6) AS saved,
		round((count(r.hit) * avg(r.took_ms) FILTER (WHERE r.origin = 'provider') / 1000)::numeric, 1) AS seconds_saved
	FROM @schema@.results r WHERE r.origin IN ('provider', 'cache') GROUP BY r.type;
COMMENT ON VIEW @schema@.cache_efficiency IS 'of the types that a provider is asked for: how many answers came from the cache, what they had cost, and the time that asking takes';

CREATE OR REPLACE VIEW @schema@.workers AS
	SELECT w.lane, w.pid, w.state, w.reason, w.since, w.tasks, w.errors, w.running, w.oldest
	FROM millrace.stat_task_workers w WHERE w.owner = (SELECT p.owner FROM millrace.pipelines p WHERE p.name = @schema_literal@);
COMMENT ON VIEW @schema@.workers IS 'the processes that are at the owner''s tasks now';

CREATE OR REPLACE VIEW @schema@.failures_by_class AS
	SELECT f.type, f.state, f.class, f.sqlstate, count(*) AS tasks, max(f.failed_at) AS last_at, (array_agg(f.message ORDER BY f.failed_at DESC))[1] AS last_message
	FROM @schema@.failures f GROUP BY f.type, f.state, f.class, f.sqlstate;
COMMENT ON VIEW @schema@.failures_by_class IS 'what could not be done, by class of error';

CREATE OR REPLACE VIEW @schema@.sentiment_by_topic AS
	SELECT t.result ->> 'topic' AS topic, count(*) AS events, count(*) FILTER (WHERE s.result ->> 'label' = 'positive') AS positive,
		count(*) FILTER (WHERE s.result ->> 'label' = 'negative') AS negative,
		count(*) FILTER (WHERE s.result ->> 'label' NOT IN ('positive', 'negative')) AS neither
	FROM @schema@.results t LEFT JOIN @schema@.results s ON s.event_id = t.event_id AND s.type = 'sentiment_analysis'
	WHERE t.type = 'topic' GROUP BY 1;
COMMENT ON VIEW @schema@.sentiment_by_topic IS 'how the texts about each topic feel';

CREATE OR REPLACE VIEW @schema@.lag AS
	SELECT s.name AS source, s.topic, s.state, s.reason, o.partition, o.next_offset, o.high_watermark,
		GREATEST(o.high_watermark - o.next_offset, 0) AS messages_behind, o.last_batch_at
	FROM millrace.sources s LEFT JOIN millrace.source_offsets o ON o.source = s.name
	WHERE s.target = format('%I.%I', @schema_literal@, 'events');
COMMENT ON VIEW @schema@.lag IS 'how far this pipeline''s sources are behind their topics';

-- Everything is there: what the declaration asks for.
SELECT @schema@.define();
SELECT millrace.create_source(format('%s_events', @schema_literal@), @options@::jsonb ->> 'server', COALESCE(@options@::jsonb ->> 'topic', 'datos_crudos'),
	format('%I.events', @schema_literal@)::regclass, COALESCE(@options@::jsonb -> 'source', '{}'))
WHERE @options@::jsonb ->> 'server' IS NOT NULL;
