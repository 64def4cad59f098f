-- Pipeline "events", over HTTP: a text and what is to be done with it, and what came of that.
--
-- Run behind events_views.sql, and again by upgrade_pipeline().  Both run as the pipeline's owner: who may call them needs EXECUTE and
-- nothing else.  What a task came to is told to who knows its id, which cannot be guessed.

CREATE OR REPLACE FUNCTION @schema@.http_process(text text, task_type text, metadata jsonb DEFAULT '{}') RETURNS millrace.http_response
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	t @schema@.types;
	event bigint;
	task uuid;
	wanted boolean;
BEGIN
	SELECT y.* INTO t FROM @schema@.types y WHERE y.type = task_type AND y.enabled;
	IF NOT FOUND THEN
		RAISE invalid_parameter_value USING MESSAGE = format('unknown task type "%s"', task_type),
			HINT = 'Task types are ' || (SELECT string_agg(y.type, ', ' ORDER BY y.type) FROM @schema@.types y WHERE y.enabled) || '.';
	END IF;
	IF text IS NULL OR jsonb_typeof(metadata) <> 'object' THEN
		RAISE invalid_parameter_value USING MESSAGE = CASE WHEN text IS NULL THEN 'text must not be null' ELSE 'metadata must be an object' END;
	END IF;
	INSERT INTO @schema@.events AS e (text, metadata, source)
	VALUES (http_process.text, COALESCE(http_process.metadata, '{}') || jsonb_build_object('tasks', jsonb_build_array(task_type)), 'http:' || millrace.request_role())
	RETURNING e.event_id INTO event;
	IF t.condition IS NOT NULL THEN
		EXECUTE format('SELECT (%s) IS TRUE FROM @schema@.events e WHERE e.event_id = $1', t.condition) INTO wanted USING event;
		IF NOT wanted THEN
			RAISE invalid_parameter_value USING MESSAGE = format('tasks of type "%s" are not made of such texts', task_type), DETAIL = format('The condition is %s.', t.condition);
		END IF;
	END IF;
	INSERT INTO @schema@.requests AS r (event_id, type) VALUES (event, task_type) RETURNING r.task_id INTO task;
	RETURN millrace.respond(202, jsonb_build_object('task_id', task), jsonb_build_object('Location', 'task/' || task));
END $$;
COMMENT ON FUNCTION @schema@.http_process(text, text, jsonb) IS 'an event of which one type of task is made; metadata as in events.  GRANT EXECUTE to those who may';

CREATE OR REPLACE FUNCTION @schema@.http_task(task_id uuid) RETURNS jsonb
	LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	answer jsonb;
BEGIN
	SELECT jsonb_strip_nulls(jsonb_build_object('task_id', q.task_id, 'status', CASE WHEN r.event_id IS NOT NULL THEN 'succeeded' ELSE COALESCE(f.state, 'pending') END,
		'task_type', q.type, 'cached', COALESCE(r.origin = 'cache', false), 'model', NULLIF(r.model, ''), 'similarity', r.similarity,
		'latency_ms', r.took_ms, 'error', CASE WHEN r.event_id IS NULL THEN f.message END, 'finished_at', COALESCE(r.finished_at, f.failed_at)))
		|| CASE WHEN r.result IS NULL THEN '{}' ELSE jsonb_build_object('result', r.result) END
	INTO answer
	FROM @schema@.requests q LEFT JOIN @schema@.results r ON r.event_id = q.event_id AND r.type = q.type
		LEFT JOIN @schema@.failures f ON f.event_id = q.event_id AND f.type = q.type
	WHERE q.task_id = http_task.task_id;
	IF NOT FOUND THEN
		RAISE no_data_found USING MESSAGE = format('there is no task %s', http_task.task_id);
	END IF;
	RETURN answer;
END $$;
COMMENT ON FUNCTION @schema@.http_task(uuid) IS 'what has become of a task: pending, succeeded with its result, failed, cancelled or expired with its error.  GRANT EXECUTE to those who may';
REVOKE EXECUTE ON FUNCTION @schema@.http_process(text, text, jsonb), @schema@.http_task(uuid) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.http_health() RETURNS millrace.http_response
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT millrace.pipeline_health(@schema_literal@,
			COALESCE((SELECT jsonb_agg(DISTINCT m.model) FROM @schema@.types t, LATERAL (VALUES
				('sentiment_analysis', jsonb_build_object('use', 'encoder', 'task', 'encoder', 'model', @schema@.option('encoder'))),
				('topic', jsonb_build_object('use', 'encoder', 'task', 'encoder', 'model', @schema@.option('encoder'))),
				('embedding', jsonb_build_object('use', 'encoder', 'task', 'encoder', 'model', @schema@.option('encoder'))),
				('sentiment_analysis', jsonb_build_object('use', 'sentiment', 'task', 'classifier', 'model', @schema@.option('classifier', '"sentiment"')))) m(type, model)
				WHERE t.enabled AND t.kind IS NULL AND m.type = t.type), '[]'),
			jsonb_build_object('task_types', (SELECT jsonb_agg(t.type ORDER BY t.type) FROM @schema@.types t WHERE t.enabled),
				'failures_last_hour', (SELECT count(*) FROM @schema@.failures f WHERE f.failed_at > now() - interval '1 hour')))
	$$;
CREATE INDEX IF NOT EXISTS failures_failed ON @schema@.failures (failed_at);
COMMENT ON FUNCTION @schema@.http_health() IS 'whether the models of the types are there, and sources run';

SELECT millrace.set_pipeline_routes(@schema_literal@, (@options@::jsonb) ->> 'http_prefix', $routes$[
	{"method": "POST", "path": "/process", "function": "http_process(text, text, jsonb)", "body": ["json", "form"], "summary": "Have a text processed", "responses": {
		"202": {"description": "queued: see /task", "schema": {"type": "object", "required": ["task_id"], "properties": {"task_id": {"type": "string", "format": "uuid"}}}}}},
	{"method": "GET", "path": "/task/{task_id}", "function": "http_task(uuid)", "summary": "What has become of a task", "responses": {
		"200": {"description": "its state, and its result", "schema": {"type": "object", "required": ["task_id", "status", "task_type", "cached"], "properties": {
			"task_id": {"type": "string", "format": "uuid"}, "status": {"enum": ["pending", "succeeded", "failed", "cancelled", "expired"]}, "task_type": {"type": "string"}, "result": {},
			"cached": {"type": "boolean"}, "model": {"type": "string"}, "similarity": {"type": "number"}, "latency_ms": {"type": "number"}, "error": {"type": "string"}, "finished_at": {"type": "string"}}}},
		"404": {"description": "there is no such task"}}},
	{"method": "GET", "path": "/task/{task_id}/events", "function": "http_task(uuid)", "interval_ms": 500, "summary": "The same as events, whenever it has changed"}
]$routes$::jsonb || millrace.common_routes());
