-- pipelines: what the routes of all templates have in common

CREATE FUNCTION millrace.rows_changed() RETURNS trigger
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'millrace_models_changed';
COMMENT ON FUNCTION millrace.rows_changed() IS 'statement trigger: tells every session that rows of this table which it keeps may have changed';
REVOKE EXECUTE ON FUNCTION millrace.rows_changed() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.rows_changed() TO millrace_admin;

CREATE FUNCTION millrace.predict_with_profile(pipeline text, descriptors real[], profile text DEFAULT NULL) RETURNS json
	LANGUAGE c STABLE PARALLEL SAFE COST 100
	AS 'MODULE_PATHNAME', 'millrace_predict_with_profile';
COMMENT ON FUNCTION millrace.predict_with_profile(text, real[], text) IS
	'classifies one row with a profile of a pipeline of kind images (by default balanced, else the first by name), for who has USAGE on its schema: {"label", "confidence", "model", "latency_ms"}';

CREATE FUNCTION millrace.route_model(model text, task text, fault text DEFAULT '55000') RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	message text;
	hint text;
BEGIN
	RETURN millrace.resolve_model(model, task);
EXCEPTION WHEN undefined_object THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, hint = PG_EXCEPTION_HINT;
	RAISE EXCEPTION USING ERRCODE = fault, MESSAGE = message, HINT = hint;
END
$$;
COMMENT ON FUNCTION millrace.route_model(text, text, text) IS
	'resolve_model() for routes: a model that there is not is the SQLSTATE fault, by default 55000, which requests are answered 503 for; 22023 where the request names it';
REVOKE EXECUTE ON FUNCTION millrace.route_model(text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.route_model(text, text, text) TO millrace_user;

CREATE FUNCTION millrace.pipeline_health(pipeline text, models jsonb, figures jsonb DEFAULT '{}', reasons text[] DEFAULT '{}') RETURNS millrace.http_response
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	model record;
	found jsonb := '{}';
	first text;
	loaded boolean := true;
	sources jsonb;
	halted text[];
BEGIN
	FOR model IN SELECT m.use, m.task, m.model FROM jsonb_to_recordset(models) m (use text, task text, model text) LOOP
		BEGIN
			found := found || jsonb_build_object(model.use, millrace.resolve_model(model.model, model.task));
			first := coalesce(first, found ->> model.use);
		EXCEPTION WHEN undefined_object OR invalid_parameter_value THEN
			loaded := false;
			found := found || jsonb_build_object(model.use, NULL);
			reasons := reasons || format('%s: %s', model.use, SQLERRM);
		END;
	END LOOP;
	SELECT jsonb_object_agg(s.name, s.state ORDER BY s.name),
		   array_agg(format('source %s: %s', s.name, concat_ws(', ', s.state, s.reason)) ORDER BY s.name) FILTER (WHERE s.state IN ('halted', 'waiting', 'running, no worker'))
	  INTO sources, halted FROM millrace.source_status s WHERE starts_with(s.target, format('%I.', pipeline));
	reasons := reasons || halted;
	RETURN millrace.respond(CASE reasons WHEN '{}' THEN 200 ELSE 503 END,
		jsonb_build_object('status', CASE reasons WHEN '{}' THEN 'healthy' ELSE 'unhealthy' END, 'pipeline', pipeline, 'model_path', first,
			'model_loaded', loaded AND (first IS NOT NULL OR reasons = '{}'), 'models', found, 'sources', coalesce(sources, '{}')) || figures || jsonb_build_object('reasons', to_jsonb(reasons)),
		CASE WHEN reasons <> '{}' THEN '{"Retry-After": "10"}'::jsonb END);
END
$$;
COMMENT ON FUNCTION millrace.pipeline_health(text, jsonb, jsonb, text[]) IS
	'answer of a pipeline''s /health: whether its models [{"use", "task", "model"}] are there and its sources run; reasons: what else is wrong';
REVOKE EXECUTE ON FUNCTION millrace.pipeline_health(text, jsonb, jsonb, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.pipeline_health(text, jsonb, jsonb, text[]) TO millrace_admin;

CREATE FUNCTION millrace.common_routes() RETURNS jsonb
	LANGUAGE sql IMMUTABLE
AS $$ SELECT $routes$[
	{"method": "GET", "path": "/health", "function": "http_health()", "open": true, "summary": "Whether this pipeline can work", "responses": {
		"200": {"description": "healthy", "schema": {"type": "object", "required": ["status", "model_path", "model_loaded", "reasons"], "properties": {
			"status": {"enum": ["healthy"]}, "model_path": {"type": ["string", "null"]}, "model_loaded": {"type": "boolean"}, "reasons": {"type": "array", "maxItems": 0}}}},
		"503": {"description": "not healthy, and why", "schema": {"type": "object", "required": ["status", "model_path", "model_loaded", "reasons"], "properties": {
			"status": {"enum": ["unhealthy"]}, "model_path": {"type": ["string", "null"]}, "model_loaded": {"type": "boolean"}, "reasons": {"type": "array", "minItems": 1, "items": {"type": "string"}}}}}}},
	{"method": "GET", "path": "/metrics", "function": "http_metrics()", "summary": "Figures of this pipeline, as Prometheus' text or, with Accept: application/json, as JSON", "responses": {
		"200": {"description": "figures", "content_type": "text/plain", "schema": {"type": "string"}}}}
]$routes$::jsonb $$;
COMMENT ON FUNCTION millrace.common_routes() IS 'routes that every template registers: its http_health() and http_metrics()';
