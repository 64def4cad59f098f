-- gateway: what the dashboard shows of each kind of pipeline
--
-- Run by dashboard_pipeline() for callers who may read the tables.  Latencies are those of the last few hundred rows, found by an
-- index: the whole history is what the pipeline's own views are for.

-- plpgsql, for its plan is kept
CREATE FUNCTION millrace.dashboard_percentiles(ms double precision[]) RETURNS jsonb
	LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	n bigint;
	p double precision[];
BEGIN
	SELECT count(u), percentile_cont('{0.5,0.95,0.99}'::float8[]) WITHIN GROUP (ORDER BY u) INTO n, p FROM unnest(ms) u;
	RETURN jsonb_build_object('n', n, 'p50', round(p[1]::numeric, 3), 'p95', round(p[2]::numeric, 3), 'p99', round(p[3]::numeric, 3));
END
$$;
COMMENT ON FUNCTION millrace.dashboard_percentiles(double precision[]) IS 'how many milliseconds these are, and within how many 50, 95 and 99 % of them lie';

CREATE FUNCTION millrace.dashboard_images(pipeline text) RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shown jsonb;
BEGIN
	-- made by upgrade_pipeline() where an older version made the pipeline
	IF to_regclass(format('%I.descriptors_created', pipeline)) IS NULL THEN
		RETURN jsonb_build_object('error', format('index %I.descriptors_created is missing: SELECT millrace.upgrade_pipeline(%L)', pipeline, pipeline));
	END IF;
	EXECUTE format($q$
		WITH recent AS MATERIALIZED (
			SELECT d.image_id, d.descriptor_count, d.model, d.extract_ms, d.created_at, d.source_time, row_number() OVER () AS n
			  FROM (SELECT * FROM %1$I.descriptors d ORDER BY d.created_at DESC LIMIT 200) d),
		predicted AS MATERIALIZED (
			SELECT r.image_id, r.n, r.source_time, p.*
			  FROM recent r CROSS JOIN LATERAL (SELECT p.profile, p.label, p.confidence, p.model, p.classify_ms, p.predicted_at
												  FROM %1$I.predictions p WHERE p.image_id = r.image_id ORDER BY p.profile LIMIT 12) p)
		SELECT jsonb_build_object(
			'extract', (SELECT millrace.dashboard_percentiles(array_agg(r.extract_ms::float8)) FROM recent r WHERE r.extract_ms IS NOT NULL),
			'classify', (SELECT jsonb_object_agg(c.profile, c.p) FROM (SELECT p.profile, millrace.dashboard_percentiles(array_agg(p.classify_ms::float8)) AS p FROM predicted p GROUP BY p.profile) c),
			'whole', (SELECT millrace.dashboard_percentiles(array_agg(1000 * extract(epoch FROM p.predicted_at - p.source_time)::float8)) FROM predicted p WHERE p.source_time IS NOT NULL),
			'classes', (SELECT jsonb_agg(jsonb_build_array(c.profile, c.label, c.n) ORDER BY c.profile, c.n DESC, c.label)
						  FROM (SELECT p.profile, p.label, count(*) AS n FROM predicted p GROUP BY p.profile, p.label) c),
			'images', (SELECT jsonb_agg(jsonb_build_object('image_id', r.image_id, 'at', r.created_at, 'descriptors', r.descriptor_count, 'model', r.model, 'extract_ms', r.extract_ms,
								'photo', i.content_bytes IS NOT NULL, 'bytes', i.content_bytes,
								'predictions', (SELECT jsonb_agg(jsonb_build_object('profile', p.profile, 'label', p.label, 'confidence', p.confidence, 'model', p.model) ORDER BY p.profile)
												  FROM predicted p WHERE p.n = r.n)) ORDER BY r.n)
						  FROM recent r LEFT JOIN LATERAL (SELECT octet_length(i.content) AS content_bytes FROM %1$I.images i WHERE i.image_id = r.image_id) i ON true WHERE r.n <= 12),
			'failures', (SELECT jsonb_agg(to_jsonb(f) ORDER BY f.failure_id DESC)
						   FROM (SELECT f.failure_id, f.image_id, f.stage, f.profile, f.sqlstate, left(f.message, 300) AS message, f.failed_at
								   FROM %1$I.failures f ORDER BY f.failure_id DESC LIMIT 6) f))
		$q$, pipeline) INTO shown;
	RETURN shown;
END
$$;
COMMENT ON FUNCTION millrace.dashboard_images(text) IS 'what the dashboard shows of a pipeline of kind images: the last images with their predictions, latencies and classes of the last 200';

CREATE FUNCTION millrace.dashboard_answers(pipeline text) RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shown jsonb;
BEGIN
	EXECUTE format($q$
		WITH recent AS MATERIALIZED (SELECT m.* FROM %1$I.processing_metrics m ORDER BY m.metric_id DESC LIMIT 1000),
		asked AS MATERIALIZED (SELECT r.question_id, max(r.metric_id) AS last FROM recent r GROUP BY r.question_id ORDER BY 2 DESC LIMIT 200),
		questions AS MATERIALIZED (SELECT a.last, q.* FROM asked a JOIN %1$I.questions q ON q.question_id = a.question_id),
		scores AS MATERIALIZED (SELECT s.score, s.gate, s.validated FROM %1$I.score_history s ORDER BY s.score_id DESC LIMIT 200)
		SELECT jsonb_build_object(
			'latency', (SELECT jsonb_object_agg(l.stage, l.p) FROM (
				SELECT r.stage, millrace.dashboard_percentiles(array_agg(r.ms)) AS p FROM recent r WHERE r.ms IS NOT NULL GROUP BY r.stage) l),
			'lookups', (SELECT jsonb_object_agg(l.found, l.n) FROM (SELECT coalesce(r.answered_by, 'provider') AS found, count(*) AS n FROM recent r WHERE r.stage = 'lookup' GROUP BY 1) l),
			'errors', (SELECT jsonb_object_agg(l.class, l.n) FROM (SELECT r.class, count(*) AS n FROM recent r WHERE r.class IS NOT NULL GROUP BY 1) l),
			'states', (SELECT jsonb_object_agg(s.status, s.n) FROM (SELECT q.status, count(*) AS n FROM questions q GROUP BY q.status) s),
			'scores', (SELECT jsonb_agg(s.n ORDER BY b) FROM generate_series(1, 20) b
						 LEFT JOIN LATERAL (SELECT count(*) AS n FROM scores s WHERE least(floor(s.score * 20)::int + 1, 20) = b) s ON true WHERE EXISTS (SELECT FROM scores s WHERE s.score IS NOT NULL)),
			'gate', (SELECT max(s.gate) FROM scores s),
			'questions', (SELECT jsonb_agg(jsonb_build_object('question_id', q.question_id, 'tenant', q.tenant, 'question', left(q.question, 500), 'status', q.status,
								'answered_by', q.answered_by, 'similarity', q.similarity, 'reason', left(q.reason, 300), 'asked_at', q.asked_at, 'finished_at', q.finished_at,
								'answer', left(a.answer, 2000), 'score', a.score, 'attempts', t.attempts) ORDER BY q.last DESC)
							FROM (SELECT * FROM questions ORDER BY last DESC LIMIT 12) q
							LEFT JOIN %1$I.responses a ON a.response_id = coalesce(q.response_id, q.last_response_id)
							LEFT JOIN LATERAL (
								SELECT jsonb_agg(jsonb_build_object('round', r.round, 'regeneration', r.regeneration, 'origin', r.origin, 'answer', left(r.answer, 2000), 'score', r.score,
											'gate', r.gate, 'validated', r.validated, 'feedback', left(r.feedback, 500), 'provider', r.provider, 'model', r.model, 'latency_ms', r.latency_ms,
											'tokens_in', r.tokens_in, 'tokens_out', r.tokens_out, 'at', r.created_at) ORDER BY r.round, r.regeneration) AS attempts
								  FROM (SELECT * FROM %1$I.responses r WHERE r.question_id = q.question_id ORDER BY r.round DESC, r.regeneration DESC LIMIT 12) r) t ON true),
			'failed', (SELECT jsonb_agg(to_jsonb(f) ORDER BY f.failed_at DESC) FROM (
				SELECT f.question_id, left(f.question, 300) AS question, f.state, f.class, f.sqlstate, left(f.error, 300) AS error, f.attempts, f.failed_at
				  FROM asked a JOIN %1$I.failed_questions f ON f.question_id = a.question_id ORDER BY f.failed_at DESC LIMIT 6) f))
		$q$, pipeline) INTO shown;
	RETURN shown;
END
$$;
COMMENT ON FUNCTION millrace.dashboard_answers(text) IS 'what the dashboard shows of a pipeline of kind answers: the last questions with every attempt, states, scores and latencies of the last thousand steps';

CREATE FUNCTION millrace.dashboard_events(pipeline text) RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shown jsonb;
BEGIN
	EXECUTE format($q$
		WITH recent AS MATERIALIZED (SELECT e.event_id, left(e.text, 300) AS text, e.tenant, e.received_at, e.source_time FROM %1$I.events e ORDER BY e.event_id DESC LIMIT 200),
		done AS MATERIALIZED (
			SELECT e.received_at, e.source_time, r.*
			  FROM recent e CROSS JOIN LATERAL (SELECT r.event_id, r.type, CASE WHEN pg_column_size(r.result) < 1000 THEN r.result END AS result, r.origin, r.hit, r.took_ms, r.finished_at
												  FROM %1$I.results r WHERE r.event_id = e.event_id ORDER BY r.type LIMIT 12) r)
		SELECT jsonb_build_object(
			'whole', (SELECT jsonb_object_agg(l.type, l.p) FROM (
				SELECT d.type, millrace.dashboard_percentiles(array_agg(1000 * extract(epoch FROM d.finished_at - coalesce(d.source_time, d.received_at))::float8)) AS p FROM done d GROUP BY d.type) l),
			'work', (SELECT jsonb_object_agg(l.type, l.p) FROM (
				SELECT d.type || CASE WHEN d.origin = 'local' THEN '' ELSE ', ' || d.origin END AS type, millrace.dashboard_percentiles(array_agg(d.took_ms::float8)) AS p
				  FROM done d WHERE d.took_ms IS NOT NULL GROUP BY 1) l),
			'origins', (SELECT jsonb_object_agg(l.origin, l.n) FROM (SELECT CASE WHEN d.hit IS NULL THEN d.origin ELSE 'cache, ' || d.hit END AS origin, count(*) AS n FROM done d GROUP BY 1) l),
			'events', (SELECT jsonb_agg(jsonb_build_object('event_id', e.event_id, 'text', e.text, 'tenant', e.tenant, 'at', e.received_at,
								'results', (SELECT jsonb_agg(jsonb_build_object('type', d.type, 'result', d.result, 'origin', d.origin, 'hit', d.hit) ORDER BY d.type)
											  FROM done d WHERE d.event_id = e.event_id)) ORDER BY e.event_id DESC)
						 FROM (SELECT * FROM recent ORDER BY event_id DESC LIMIT 12) e),
			'failures', (SELECT jsonb_agg(to_jsonb(f) ORDER BY f.event_id DESC) FROM (
				SELECT f.event_id, f.type AS stage, f.state, f.class, f.sqlstate, left(f.message, 300) AS message, f.failed_at FROM %1$I.failures f ORDER BY f.event_id DESC LIMIT 6) f))
		$q$, pipeline) INTO shown;
	RETURN shown;
END
$$;
COMMENT ON FUNCTION millrace.dashboard_events(text) IS 'what the dashboard shows of a pipeline of kind events: the last events with their results, latencies of the last 200';

CREATE FUNCTION millrace.dashboard_datasets(pipeline text) RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shown jsonb;
BEGIN
	EXECUTE format($q$
		SELECT jsonb_build_object('datasets', jsonb_agg(jsonb_build_object('dataset', d.dataset, 'version', d.version, 'task', d.task, 'description', left(d.description, 300),
					'run_id', a.run_id, 'audited_version', a.version, 'audited_at', a.ended_at, 'seconds', extract(epoch FROM a.ended_at - a.started_at),
					'findings', f.findings, 'evaluation', e.figures, 'detector', e.model) ORDER BY d.dataset))
		  FROM (SELECT * FROM %1$I.datasets d ORDER BY d.created_at DESC LIMIT 12) d
		  LEFT JOIN LATERAL (SELECT * FROM %1$I.runs r WHERE r.dataset = d.dataset AND r.activity = 'audit' AND r.ended_at IS NOT NULL ORDER BY r.run_id DESC LIMIT 1) a ON true
		  LEFT JOIN LATERAL (SELECT r.model, CASE WHEN pg_column_size(r.figures) < 2000 THEN r.figures END AS figures
							   FROM %1$I.runs r WHERE r.dataset = d.dataset AND r.activity = 'evaluation' AND r.ended_at IS NOT NULL ORDER BY r.run_id DESC LIMIT 1) e ON true
		  LEFT JOIN LATERAL (
			SELECT jsonb_agg(jsonb_build_object('kind', c.kind, 'severity', c.severity, 'n', c.n, 'waived', w.kind IS NOT NULL, 'fix', k.fix, 'description', k.description)
						ORDER BY array_position('{blocking,warning,info}', c.severity), c.n DESC, c.kind) AS findings
			  -- the first of very many: what is more is more
			  FROM (SELECT l.kind, l.severity, count(*) AS n FROM (SELECT f.kind, f.severity FROM %1$I.findings f WHERE f.run_id = a.run_id LIMIT 20000) l GROUP BY l.kind, l.severity) c
			  JOIN %1$I.kinds k ON k.kind = c.kind
			  LEFT JOIN %1$I.waivers w ON w.dataset = d.dataset AND w.kind = c.kind) f ON true
		$q$, pipeline) INTO shown;
	RETURN shown;
END
$$;
COMMENT ON FUNCTION millrace.dashboard_datasets(text) IS 'what the dashboard shows of a pipeline of kind datasets: its data sets with the findings of the last audit, by severity and kind';

CREATE FUNCTION millrace.dashboard_tabular(pipeline text) RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	shown jsonb;
BEGIN
	EXECUTE format($q$
		SELECT jsonb_build_object('runs', jsonb_agg(jsonb_build_object('run_id', r.run_id, 'period', r.period, 'state', r.state, 'rows_raw', r.rows_raw, 'rows_rejected', r.rows_rejected,
					'rows_features', r.rows_features, 'rows_predicted', r.rows_predicted, 'champion_before', r.champion_before, 'champion_after', r.champion_after,
					'candidates', r.candidates, 'challenge', r.challenge, 'drift', r.drift, 'seconds', r.seconds, 'error', left(r.error, 300),
					'started_at', r.started_at, 'finished_at', r.finished_at) ORDER BY r.period DESC))
		  FROM (SELECT * FROM %1$I.runs r ORDER BY r.period DESC LIMIT 16) r
		$q$, pipeline) INTO shown;
	RETURN shown;
END
$$;
COMMENT ON FUNCTION millrace.dashboard_tabular(text) IS 'what the dashboard shows of a pipeline of kind tabular: its last 16 periods, with candidates, decisions and alarms';
