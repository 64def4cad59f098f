-- Pipeline "answers", views: what asking again brought, what went wrong, how long it took, what the cache saved.
--
-- Run behind answers_ask.sql, and again by upgrade_pipeline().

CREATE OR REPLACE VIEW @schema@.regeneration_analysis AS
	WITH last AS (
		SELECT DISTINCT ON (h.response_id) h.question_id, h.round, h.regeneration, h.score, h.validated, h.response_id
		FROM @schema@.score_history h WHERE h.regeneration >= 0 ORDER BY h.response_id, h.score_id DESC),
	steps AS (
		SELECT l.*, l.score - pg_catalog.lag(l.score) OVER (PARTITION BY l.question_id, l.round ORDER BY l.regeneration) AS gain FROM last l)
	SELECT s.regeneration, pg_catalog.count(*) AS answers, pg_catalog.count(*) FILTER (WHERE s.validated) AS validated,
		   pg_catalog.round(100.0 * pg_catalog.count(*) FILTER (WHERE s.validated) / pg_catalog.count(*), 1) AS validated_percent,
		   pg_catalog.round(pg_catalog.avg(s.score)::numeric, 4) AS mean_score,
		   pg_catalog.round(pg_catalog.avg(s.gain)::numeric, 4) AS mean_gain,
		   pg_catalog.count(*) FILTER (WHERE s.gain > 0) AS better, pg_catalog.count(*) FILTER (WHERE s.gain < 0) AS worse
	FROM steps s GROUP BY s.regeneration ORDER BY s.regeneration;
COMMENT ON VIEW @schema@.regeneration_analysis IS 'first answers (0) and second, third, fourth attempts: scores, and what they gained over the attempt before';

CREATE OR REPLACE VIEW @schema@.error_distribution AS
	WITH errors AS (
		SELECT m.class, m.question_id, m.stage = 'total' AS final FROM @schema@.processing_metrics m WHERE m.class IS NOT NULL)
	SELECT e.class, pg_catalog.count(*) AS attempts, pg_catalog.count(DISTINCT e.question_id) AS questions,
		   pg_catalog.count(DISTINCT e.question_id) FILTER (WHERE q.status IN ('success', 'validated', 'low-quality')) AS recovered,
		   pg_catalog.count(DISTINCT e.question_id) FILTER (WHERE f.question_id IS NOT NULL AND e.final) AS failed,
		   pg_catalog.round(100.0 * pg_catalog.count(*) / pg_catalog.sum(pg_catalog.count(*)) OVER (), 1) AS percent
	FROM errors e LEFT JOIN @schema@.questions q ON q.question_id = e.question_id
	LEFT JOIN @schema@.failed_questions f ON f.question_id = e.question_id
	GROUP BY e.class ORDER BY 2 DESC;
COMMENT ON VIEW @schema@.error_distribution IS 'failed attempts by class of error; how many of their questions were answered all the same, and how many failed for good by it';

CREATE OR REPLACE VIEW @schema@.latency_by_stage AS
	SELECT m.stage, pg_catalog.count(*) AS questions,
		   pg_catalog.round(pg_catalog.percentile_cont(0.5) WITHIN GROUP (ORDER BY m.ms)::numeric, 3) AS p50_ms,
		   pg_catalog.round(pg_catalog.percentile_cont(0.95) WITHIN GROUP (ORDER BY m.ms)::numeric, 3) AS p95_ms,
		   pg_catalog.round(pg_catalog.percentile_cont(0.99) WITHIN GROUP (ORDER BY m.ms)::numeric, 3) AS p99_ms
	FROM (SELECT CASE WHEN p.stage = 'lookup' THEN pg_catalog.concat('lookup ', COALESCE(p.answered_by, 'miss')) ELSE p.stage END AS stage, p.ms
		  FROM @schema@.processing_metrics p WHERE p.ms IS NOT NULL) m
	GROUP BY m.stage ORDER BY m.stage;
COMMENT ON VIEW @schema@.latency_by_stage IS 'milliseconds: lookup by what it found, generate (waiting and calls), call (the provider alone), retry, score, shared (waiting for the same question, asked before), total (of those that were queued, to their last state)';

CREATE OR REPLACE VIEW @schema@.cache_efficiency AS
	WITH calls AS (SELECT pg_catalog.avg(r.cost) AS cost, pg_catalog.avg(r.latency_ms) AS ms FROM @schema@.responses r WHERE r.origin = 'generated')
	SELECT COALESCE(m.answered_by, 'queued') AS answered_by, pg_catalog.count(*) AS questions,
		   pg_catalog.round(100.0 * pg_catalog.count(*) / pg_catalog.sum(pg_catalog.count(*)) OVER (), 1) AS percent,
		   pg_catalog.round(pg_catalog.percentile_cont(0.5) WITHIN GROUP (ORDER BY m.ms)::numeric, 3) AS p50_ms,
		   pg_catalog.round(pg_catalog.percentile_cont(0.95) WITHIN GROUP (ORDER BY m.ms)::numeric, 3) AS p95_ms,
		   CASE WHEN m.answered_by IS NULL THEN 0 ELSE pg_catalog.count(*) END AS calls_saved,
		   CASE WHEN m.answered_by IS NULL THEN 0 ELSE pg_catalog.round((pg_catalog.count(*) * c.ms / 1000)::numeric, 1) END AS seconds_saved,
		   CASE WHEN m.answered_by IS NULL THEN 0 ELSE pg_catalog.round(pg_catalog.count(*) * c.cost, 6) END AS cost_saved
	FROM @schema@.processing_metrics m, calls c WHERE m.stage = 'lookup'
	GROUP BY m.answered_by, c.cost, c.ms ORDER BY 2 DESC;
COMMENT ON VIEW @schema@.cache_efficiency IS 'what questions were answered with (exact and semantic: the cache; shared: by the call for the same question), how fast, and what the calls would have taken by the mean of those made';

CREATE OR REPLACE VIEW @schema@.throughput AS
	SELECT pg_catalog.date_trunc('minute', m.measured_at) AS minute,
		   pg_catalog.count(*) FILTER (WHERE m.stage = 'lookup') AS asked,
		   pg_catalog.count(*) FILTER (WHERE m.stage = 'lookup' AND m.state = 'validated') AS answered_at_once,
		   pg_catalog.count(*) FILTER (WHERE m.stage = 'generate') AS generated,
		   pg_catalog.count(*) FILTER (WHERE m.state = 'validated') AS validated,
		   pg_catalog.count(*) FILTER (WHERE m.state = 'low-quality') AS low_quality,
		   pg_catalog.count(*) FILTER (WHERE m.stage = 'total' AND m.class IS NOT NULL) AS failed,
		   pg_catalog.round(pg_catalog.count(*) FILTER (WHERE m.state IN ('validated', 'low-quality'))
			/ GREATEST(EXTRACT(epoch FROM pg_catalog.max(m.measured_at) - pg_catalog.min(m.measured_at)), 1), 2) AS finished_per_second
	FROM @schema@.processing_metrics m GROUP BY 1 ORDER BY 1;
COMMENT ON VIEW @schema@.throughput IS 'questions per minute; finished_per_second over the active part of it';

CREATE OR REPLACE VIEW @schema@.sync_vs_async AS
	SELECT c.run_id, c.metric, c.unit, c.synchronous, c.asynchronous,
		   pg_catalog.round((c.asynchronous / NULLIF(c.synchronous, 0))::numeric, 3) AS ratio, c.compared_at
	FROM @schema@.comparisons c ORDER BY c.run_id DESC, c.metric;
COMMENT ON VIEW @schema@.sync_vs_async IS 'runs of compare_sync_async(), the last first: the same questions asked by clients that wait for the provider, and by ask()';

CREATE OR REPLACE VIEW @schema@.topics AS
	SELECT v.status, t.topic, t.partitions, (SELECT pg_catalog.count(*) FROM @schema@.processing_metrics m WHERE m.state = v.status) AS transitions,
		   w.state, w.found, w.reason
	FROM @schema@.settings s CROSS JOIN pg_catalog.unnest(@schema@.states()) WITH ORDINALITY v(status, n) CROSS JOIN LATERAL @schema@.topic_of(v.status) t
	LEFT JOIN millrace.topics w ON w.server = s.server AND w.topic = t.topic
	ORDER BY v.n;
COMMENT ON VIEW @schema@.topics IS
	'the topic of each state, how many partitions it should have, how many transitions there were (as many messages stand in it); state, found, reason: whether it is there, as millrace.topics has it';
