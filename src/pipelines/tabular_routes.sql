-- Pipeline "tabular", over HTTP: rows classified by the champion, and what the champion is.
--
-- Run behind tabular_objects.sql, and again by upgrade_pipeline().  All of it runs as the pipeline's owner: who may call it needs EXECUTE
-- and nothing else.  It stores nothing.
--
-- What is classified went the same way as what was learnt from: define_serving() makes serving_features() of the rules for missing
-- values, limits, derived features and normalisation that views clean and prepared have.

CREATE OR REPLACE FUNCTION @schema@.define_serving() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	method text := @schema@.option('normalise', '"none"') #>> '{}';
	raw text[];
	cleaned text;
	features text;
BEGIN
	SELECT array_agg(a.attname::text), string_agg(@schema@.cleaned(a.attname, a.atttypid), ', ' ORDER BY a.attnum) INTO raw, cleaned
	FROM pg_attribute a
	WHERE a.attrelid = '@schema@.raw'::regclass AND a.attnum > 0 AND NOT a.attisdropped
		AND a.attname NOT IN ('row_id', 'received_at', 'source', 'source_topic', 'source_partition', 'source_offset');
	-- a derived feature may be given as such; columns are never what they are derived to
	SELECT string_agg(format(CASE WHEN method = 'none' OR f.is_text THEN '(%s)::%s'
			ELSE format('(((%%s) - (SELECT s.centre FROM @schema@.scaling s WHERE s.feature = %L)) / (SELECT s.scale FROM @schema@.scaling s WHERE s.feature = %1$L))::%%s', f.name) END,
		CASE WHEN f.name = ANY (raw) THEN f.expression
			ELSE format('CASE WHEN millrace_given ? %L THEN (millrace_given ->> %1$L)::%s ELSE (%s) END', f.name, CASE WHEN f.is_text THEN 'text' ELSE 'real' END, f.expression) END,
		CASE WHEN f.is_text THEN 'text' ELSE 'real' END), ', ' ORDER BY f.n)
	INTO features FROM @schema@.features_typed() f;
	EXECUTE format('CREATE OR REPLACE FUNCTION @schema@.serving_features(objects jsonb) RETURNS SETOF @schema@.features LANGUAGE sql STABLE '
		'SET search_path = pg_catalog, pg_temp AS %L', format(
		'SELECT millrace_n, 0::bigint, now(), ''''::text, NULL::text, %s FROM (SELECT o.n AS millrace_n, o.d AS millrace_given, c.* '
		'FROM jsonb_array_elements($1) WITH ORDINALITY o(d, n), LATERAL (SELECT %s FROM jsonb_populate_record(NULL::@schema@.raw, o.d)) c) millrace_rows', features, cleaned));
	COMMENT ON FUNCTION @schema@.serving_features(jsonb) IS 'objects of raw columns, or of features, as rows of features; made by define_serving()';
	REVOKE EXECUTE ON FUNCTION @schema@.serving_features(jsonb) FROM PUBLIC;
END $$;
COMMENT ON FUNCTION @schema@.define_serving() IS 'makes serving_features() from the declaration';
REVOKE EXECUTE ON FUNCTION @schema@.define_serving() FROM PUBLIC;
SELECT @schema@.define_serving();

CREATE OR REPLACE FUNCTION @schema@.serving_champion() RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		IF @schema@.champion() IS NULL THEN
			RAISE object_not_in_prerequisite_state USING MESSAGE = format('pipeline "%s" has no champion yet', @schema_literal@),
				HINT = 'SELECT * FROM @schema@.catch_up() trains one when there are enough rows.';
		END IF;
		RETURN millrace.route_model(@schema@.champion(), 'classifier');
	END $$;
COMMENT ON FUNCTION @schema@.serving_champion() IS 'champion() that must be there';
REVOKE EXECUTE ON FUNCTION @schema@.serving_champion() FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.http_classify(body jsonb) RETURNS json
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	objects CONSTANT jsonb := CASE jsonb_typeof(body) WHEN 'array' THEN body ELSE jsonb_build_array(body) END;
	known CONSTANT text[] := ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = '@schema@.raw'::regclass AND a.attnum > 0 AND NOT a.attisdropped
		AND a.attname NOT IN ('row_id', 'received_at', 'source', 'source_topic', 'source_partition', 'source_offset'))
		|| ARRAY(SELECT f.name FROM @schema@.features_declared() f ORDER BY f.n);
	unknown text;
	champion text;
	answer json;
BEGIN
	IF EXISTS (SELECT FROM jsonb_array_elements(objects) o WHERE jsonb_typeof(o) <> 'object') THEN
		RAISE invalid_parameter_value USING MESSAGE = 'what is classified must be an object of features, or an array of such';
	ELSIF jsonb_array_length(objects) > 10000 THEN
		RAISE program_limit_exceeded USING MESSAGE = 'at most 10000 rows can be classified by one request';
	END IF;
	SELECT string_agg(DISTINCT k, ', ') INTO unknown FROM jsonb_array_elements(objects) o, jsonb_object_keys(o) k WHERE k <> ALL (known);
	IF unknown IS NOT NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = format('unknown feature: %s', unknown),
			HINT = format('Features are %s; columns they are made of, too: %s.', (SELECT string_agg(f.name, ', ' ORDER BY f.n) FROM @schema@.features_declared() f),
				(SELECT string_agg(DISTINCT k, ', ') FROM unnest(known) k WHERE NOT EXISTS (SELECT FROM @schema@.features_declared() f WHERE f.name = k)));
	END IF;
	champion := @schema@.serving_champion();
	SELECT json_agg(json_build_object('label', p.label, 'confidence', p.confidence, 'probabilities', p.probabilities, 'model', champion) ORDER BY f.row_id) INTO answer
	FROM @schema@.serving_features(objects) f, LATERAL (
		SELECT (array_agg(c.label ORDER BY c.probability DESC, c.n))[1] AS label, max(c.probability) AS confidence, json_object_agg(c.label, c.probability ORDER BY c.n) AS probabilities
		FROM @extschema@.class_probabilities(millrace.model_features(champion, f), champion) WITH ORDINALITY c(label, probability, n)) p;
	RETURN CASE jsonb_typeof(body) WHEN 'array' THEN COALESCE(answer, '[]') ELSE answer -> 0 END;
END $$;
COMMENT ON FUNCTION @schema@.http_classify(jsonb) IS
	'classifies an object of columns of raw, or an array of them, with the champion; what is left out is missing, derived features may be given ready-made.  GRANT EXECUTE to those who may';

CREATE OR REPLACE FUNCTION @schema@.http_model() RETURNS json
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	champion CONSTANT text := @schema@.champion();
	answer json;
BEGIN
	IF champion IS NULL THEN
		RAISE no_data_found USING MESSAGE = format('pipeline "%s" has no champion yet', @schema_literal@);
	END IF;
	SELECT json_build_object('model', champion, 'name', m.name, 'version', m.version, 'algorithm', m.kind, 'trained_at', m.created_at,
		'champion_since', (SELECT lower(h.live) FROM millrace.model_history h WHERE h.name = m.name AND h.alias = 'champion' AND upper_inf(h.live)),
		'features', (SELECT json_agg(f.name ORDER BY f.n) FROM @schema@.features_declared() f), 'labels', m.labels, 'training', m.training, 'metrics', m.metrics,
		'lineage', json_build_object(
			'trained_by', (SELECT json_build_object('run_id', r.run_id, 'period', r.period, 'rows', r.rows_features, 'champion_before', r.champion_before, 'decision', r.challenge)
				FROM @schema@.runs r WHERE r.champion_after = champion AND r.champion_before IS DISTINCT FROM champion ORDER BY r.run_id LIMIT 1),
			'parents', COALESCE((SELECT json_agg(json_build_object('model', l.parent_name || ':' || l.parent_version, 'role', l.role) ORDER BY l.role)
				FROM millrace.model_lineage l WHERE (l.name, l.version) = (m.name, m.version)), '[]'),
			'champions', COALESCE((SELECT json_agg(json_build_object('model', h.name || ':' || h.version, 'from', lower(h.live), 'until', upper(h.live), 'reason', h.reason) ORDER BY lower(h.live))
				FROM millrace.model_history h WHERE h.name = m.name AND h.alias = 'champion'), '[]')))
	INTO answer FROM millrace.models m WHERE m.name || ':' || m.version = champion;
	RETURN answer;
END $$;
COMMENT ON FUNCTION @schema@.http_model() IS 'the champion: what it is, how it was trained, how it became champion.  GRANT EXECUTE to those who may';

CREATE OR REPLACE FUNCTION @schema@.http_model_metrics() RETURNS json
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	champion CONSTANT text := @schema@.champion();
BEGIN
	IF champion IS NULL THEN
		RAISE no_data_found USING MESSAGE = format('pipeline "%s" has no champion yet', @schema_literal@);
	END IF;
	RETURN json_build_object('model', champion,
		'holdout', (SELECT json_build_object('rows', e.rows, 'accuracy', e.accuracy, 'balanced_accuracy', e.balanced_accuracy, 'precision_macro', e.precision_macro,
				'recall_macro', e.recall_macro, 'f1_macro', e.f1_macro, 'f1_weighted', e.f1_weighted, 'log_loss', e.log_loss, 'brier', e.brier, 'per_class', e.per_class, 'evaluated_at', e.evaluated_at)
			FROM millrace.evaluations e WHERE e.name || ':' || e.version = champion ORDER BY e.id DESC LIMIT 1),
		'periods', COALESCE((SELECT json_agg(json_build_object('period', w.period, 'model', w.model, 'rows', w.rows, 'accuracy_percent', w.accuracy_percent,
				'f1_macro_percent', w.f1_macro_percent) ORDER BY w.period) FROM @schema@.weekly_performance w WHERE w.unseen), '[]'));
END $$;
COMMENT ON FUNCTION @schema@.http_model_metrics() IS 'figures of the champion on the hold-out, and of champions on each period''s new rows.  GRANT EXECUTE to those who may';
REVOKE EXECUTE ON FUNCTION @schema@.http_classify(jsonb), @schema@.http_model(), @schema@.http_model_metrics() FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.http_health() RETURNS millrace.http_response
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT millrace.pipeline_health(@schema_literal@,
			CASE WHEN @schema@.champion() IS NULL THEN '[]' ELSE jsonb_build_array(jsonb_build_object('use', 'champion', 'task', 'classifier', 'model', @schema@.champion())) END,
			jsonb_build_object('last_run', (SELECT r.state FROM @schema@.runs r ORDER BY r.period DESC LIMIT 1),
				'failures_last_hour', (SELECT count(*) FROM @schema@.runs r WHERE r.state = 'failed' AND r.finished_at > now() - interval '1 hour')),
			CASE WHEN @schema@.champion() IS NULL THEN ARRAY['there is no champion yet'] ELSE '{}' END
			|| ARRAY(SELECT format('period %s: %s', r.period, r.error) FROM @schema@.runs r WHERE r.state = 'failed' ORDER BY r.period DESC LIMIT 1))
	$$;
COMMENT ON FUNCTION @schema@.http_health() IS 'whether there is a champion, and the last period was run';

SELECT millrace.set_pipeline_routes(@schema_literal@, (@options@::jsonb) ->> 'http_prefix', $routes$[
	{"method": "POST", "path": "/classify", "function": "http_classify(jsonb)", "body": ["json"], "read_only": true, "summary": "Classify an object of features, or an array of them", "responses": {
		"body": {"anyOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}, "maxItems": 10000}]},
		"200": {"description": "an object for an object, an array for an array", "schema": {"anyOf": [
			{"type": "object", "required": ["label", "confidence", "probabilities", "model"], "properties": {"label": {"type": "string"}, "confidence": {"type": "number"},
				"probabilities": {"type": "object", "additionalProperties": {"type": "number"}}, "model": {"type": "string"}}},
			{"type": "array", "items": {"type": "object", "required": ["label", "confidence", "probabilities", "model"], "properties": {"label": {"type": "string"}, "confidence": {"type": "number"},
				"probabilities": {"type": "object", "additionalProperties": {"type": "number"}}, "model": {"type": "string"}}}}]}}}},
	{"method": "GET", "path": "/model", "function": "http_model()", "summary": "The champion, and where it comes from", "responses": {
		"200": {"description": "the champion", "schema": {"type": "object", "required": ["model", "name", "version", "algorithm", "features", "labels", "metrics", "lineage"], "properties": {
			"model": {"type": "string"}, "name": {"type": "string"}, "version": {"type": "integer"}, "algorithm": {"type": "string"}, "features": {"type": "array", "items": {"type": "string"}},
			"labels": {"type": "array", "items": {"type": "string"}}, "metrics": {"type": "object"}, "lineage": {"type": "object", "required": ["trained_by", "parents", "champions"]}}}},
		"404": {"description": "there is none yet"}}},
	{"method": "GET", "path": "/model/metrics", "function": "http_model_metrics()", "summary": "How good the champion is", "responses": {
		"200": {"description": "figures", "schema": {"type": "object", "required": ["model", "holdout", "periods"], "properties": {
			"model": {"type": "string"}, "holdout": {"type": ["object", "null"]}, "periods": {"type": "array", "items": {"type": "object"}}}}},
		"404": {"description": "there is none yet"}}}
]$routes$::jsonb || millrace.common_routes());
