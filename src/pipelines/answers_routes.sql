-- Pipeline "answers", over HTTP: to ask, and to see what has become of a question.
--
-- Run behind answers_views.sql, and again by upgrade_pipeline().  Both run as the pipeline's owner, as ask() and status() do: who may call
-- them needs EXECUTE and nothing else.  With tenants = 'role' the tenant is the role of the request's token.

CREATE OR REPLACE FUNCTION @schema@.http_query(question text, tenant text DEFAULT NULL, reference text DEFAULT NULL, options jsonb DEFAULT NULL) RETURNS millrace.http_response
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	a record;
BEGIN
	IF NOT COALESCE(http_query.question ~ '\S' AND length(http_query.question) <= 20000, false) OR http_query.reference !~ '\S' THEN
		RAISE invalid_parameter_value USING MESSAGE = 'question must have a word, and at most 20000 characters; so must reference, where it is given';
	ELSIF jsonb_typeof(http_query.options) <> 'object' THEN
		RAISE invalid_parameter_value USING MESSAGE = 'options must be an object';
	END IF;
	SELECT * INTO a FROM @schema@.ask(http_query.question, http_query.tenant, http_query.reference, http_query.options);
	IF a.status = 'validated' THEN
		RETURN millrace.respond(200, jsonb_build_object('question_id', a.question_id, 'status', a.status, 'answer', a.answer, 'source', a.source,
			'score', (SELECT p.score FROM @schema@.published p WHERE p.question_id = a.question_id)));
	END IF;
	RETURN millrace.respond(202, jsonb_build_object('question_id', a.question_id, 'status', a.status), jsonb_build_object('Location', 'status/' || a.question_id));
END $$;
COMMENT ON FUNCTION @schema@.http_query(text, text, text, jsonb) IS 'asks a question as ask() does: 200 with the answer where there is one, else 202.  GRANT EXECUTE to those who may';

CREATE OR REPLACE FUNCTION @schema@.http_status(question_id uuid) RETURNS json
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT json_strip_nulls(json_build_object('question_id', s.question_id, 'status', s.status, 'answer', s.answer, 'score', s.score, 'source', s.source,
			'retry_count', h.retries + s.regenerations, 'error', s.error, 'asked_at', s.asked_at, 'finished_at', s.finished_at, 'history', h.history))
		FROM @schema@.status(http_status.question_id) s, LATERAL (
			SELECT count(*) FILTER (WHERE m.stage = 'retry') AS retries,
				COALESCE(json_agg(json_strip_nulls(json_build_object('at', m.measured_at, 'stage', m.stage, 'state', m.state, 'ms', round(m.ms::numeric, 3), 'regeneration', m.regeneration,
					'source', m.answered_by, 'class', m.class, 'detail', m.detail)) ORDER BY m.metric_id), '[]') AS history
			FROM @schema@.processing_metrics m WHERE m.question_id = s.question_id) h
	$$;
COMMENT ON FUNCTION @schema@.http_status(uuid) IS
	'what has become of a question, as status(): answer and score once it is validated; retry_count: attempts that failed, and answers that were not good enough; history: each stage and state.  GRANT EXECUTE to those who may';
REVOKE EXECUTE ON FUNCTION @schema@.http_query(text, text, text, jsonb), @schema@.http_status(uuid) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.http_health() RETURNS millrace.http_response
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT millrace.pipeline_health(@schema_literal@,
			CASE s.encoder WHEN '' THEN '[]'::jsonb ELSE jsonb_build_array(jsonb_build_object('use', 'encoder', 'task', 'encoder', 'model', s.encoder)) END,
			jsonb_build_object('provider', s.provider,
				'waiting', (SELECT count(*) FROM @schema@.questions q WHERE q.finished_at IS NULL),
				'failures_last_hour', (SELECT count(*) FROM @schema@.failed_questions f WHERE f.failed_at > now() - interval '1 hour')),
			CASE WHEN s.provider IS NULL THEN ARRAY['no provider: only stored answers are given'] ELSE '{}' END)
		FROM @schema@.settings s
	$$;
CREATE INDEX IF NOT EXISTS questions_waiting ON @schema@.questions (question_id) WHERE finished_at IS NULL;
COMMENT ON FUNCTION @schema@.http_health() IS 'whether questions can be answered, and sources run';

SELECT millrace.set_pipeline_routes(@schema_literal@, (@options@::jsonb) ->> 'http_prefix', $routes$[
	{"method": "POST", "path": "/query", "function": "http_query(text, text, text, jsonb)", "body": ["json", "form"], "summary": "Ask a question", "responses": {
		"200": {"description": "an answer that was there already", "schema": {"type": "object", "required": ["question_id", "status", "answer", "score", "source"], "properties": {
			"question_id": {"type": "string", "format": "uuid"}, "status": {"enum": ["validated"]}, "answer": {"type": "string"}, "score": {"type": "number"},
			"source": {"enum": ["exact", "semantic", "stored", "history"]}}}},
		"202": {"description": "it was queued: see /status", "schema": {"type": "object", "required": ["question_id", "status"], "properties": {
			"question_id": {"type": "string", "format": "uuid"}, "status": {"enum": ["pending"]}}}}}},
	{"method": "GET", "path": "/status/{question_id}", "function": "http_status(uuid)", "summary": "What has become of a question", "responses": {
		"200": {"description": "its state, and how it came there", "schema": {"type": "object", "required": ["question_id", "status", "source", "retry_count", "asked_at", "history"], "properties": {
			"question_id": {"type": "string", "format": "uuid"}, "status": {"enum": ["pending", "success", "error-overload", "error-quota", "validated", "low-quality", "failed"]},
			"answer": {"type": "string"}, "score": {"type": "number"}, "source": {"enum": ["exact", "semantic", "stored", "history", "generated", "shared", "queued"]},
			"retry_count": {"type": "integer"}, "error": {"type": "string"}, "asked_at": {"type": "string"}, "finished_at": {"type": "string"},
			"history": {"type": "array", "items": {"type": "object", "required": ["at", "stage"], "properties": {"at": {"type": "string"}, "stage": {"type": "string"}, "state": {"type": "string"},
				"ms": {"type": "number"}, "regeneration": {"type": "integer"}, "source": {"type": "string"}, "class": {"type": "string"}, "detail": {"type": "string"}}}}}}},
		"404": {"description": "there is no such question"}}},
	{"method": "GET", "path": "/status/{question_id}/events", "function": "http_status(uuid)", "interval_ms": 500, "summary": "The same as events, whenever it has changed"}
]$routes$::jsonb || millrace.common_routes());
