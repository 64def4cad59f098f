-- Pipeline "images", over HTTP: photos in, predictions, descriptors, one row classified.
--
-- Run behind images.sql, and again by upgrade_pipeline().  http_upload() and http_extract() run as the pipeline's owner: who may call them
-- needs EXECUTE and nothing else.  http_predictions() runs as the request's role, whose rights on the tables, policies of rows included, say
-- what it sees.

CREATE TABLE IF NOT EXISTS @schema@.extractions (
	task_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
	image_id text,
	object_path text NOT NULL,
	descriptors real[],
	sqlstate text,
	message text,
	asked_by text NOT NULL DEFAULT millrace.request_role(),
	asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	finished_at timestamptz
);
CREATE INDEX IF NOT EXISTS extractions_asked ON @schema@.extractions (asked_at);
COMMENT ON TABLE @schema@.extractions IS 'objects whose descriptors were asked for by POST /extract; kept for a day';
COMMENT ON COLUMN @schema@.extractions.task_id IS 'what the answer 202 names, and GET /extract/{task_id}';
COMMENT ON COLUMN @schema@.extractions.finished_at IS 'when descriptors or a fault were there; NULL: still on its way';

-- Sessions keep the profiles for http_predict() until they change.
CREATE OR REPLACE TRIGGER profiles_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON @schema@.profiles
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.rows_changed();
ALTER TABLE @schema@.profiles ENABLE ALWAYS TRIGGER profiles_changed;

CREATE OR REPLACE FUNCTION @schema@.descriptor_model() RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT millrace.route_model((SELECT p.options ->> 'descriptor_model' FROM millrace.pipelines p WHERE p.name = @schema_literal@), 'descriptors') $$;
COMMENT ON FUNCTION @schema@.descriptor_model() IS 'the model that photos of this pipeline are described with, as name:version';

-- Photos in.  The row has the bytes, so that predictions are there when the answer is; the object is put beside.
CREATE OR REPLACE FUNCTION @schema@.http_upload(file bytea, image_id text DEFAULT NULL) RETURNS millrace.http_response
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	id CONSTANT text := COALESCE(NULLIF(http_upload.image_id, ''), gen_random_uuid()::text);
	suffix CONSTANT text := CASE WHEN substr(file, 1, 3) = '\xffd8ff' THEN 'jpg' WHEN substr(file, 1, 8) = '\x89504e470d0a1a0a' THEN 'png' END;
	store @schema@.object_store;
	known @schema@.images;
	path text;
BEGIN
	PERFORM @schema@.descriptor_model();
	SELECT o.* INTO store FROM @schema@.object_store o;
	IF FOUND AND suffix IS NOT NULL THEN
		-- a name that any store takes
		path := format('%s/%s/%s.%s', store.bucket, to_char(now() AT TIME ZONE 'UTC', 'YYYY/MM/DD'),
			CASE WHEN id ~ '^[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}$' THEN id ELSE encode(sha256(convert_to(id, 'UTF8')), 'hex') END, suffix);
	END IF;
	INSERT INTO @schema@.images (image_id, object_path, content, source) VALUES (id, path, file, 'http:' || millrace.request_role())
	ON CONFLICT (image_id) DO NOTHING;
	IF FOUND THEN
		IF path IS NOT NULL THEN
			PERFORM millrace.put_object(store.server, path, file, CASE suffix WHEN 'jpg' THEN 'image/jpeg' ELSE 'image/png' END,
				format('%I.deliver_stored', @schema_literal@), id);
		END IF;
	ELSE
		SELECT i.* INTO known FROM @schema@.images i WHERE i.image_id = id;
		IF known.content IS DISTINCT FROM file THEN
			RAISE unique_violation USING MESSAGE = format('there is another image "%s"', id), HINT = 'Leave image_id out to be given one.';
		END IF;
		path := known.object_path;
	END IF;
	RETURN millrace.respond(201, jsonb_build_object('image_id', id, 'object_path', path));
END $$;
COMMENT ON FUNCTION @schema@.http_upload(bytea, text) IS
	'stores a photo, which is processed at once, and puts it into the object store where there is one; the same again changes nothing.  GRANT EXECUTE to those who may';
REVOKE EXECUTE ON FUNCTION @schema@.http_upload(bytea, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.deliver_stored(tags text[], paths text[], contents bytea[], sqlstates text[], errors text[]) RETURNS void
	LANGUAGE sql SET search_path = pg_catalog, pg_temp
	AS $$
		WITH delivered AS MATERIALIZED (
			SELECT * FROM unnest(tags, paths, sqlstates, errors) d(tag, path, sqlstate, error)
		), failed AS (
			INSERT INTO @schema@.failures (image_id, stage, sqlstate, message)
			SELECT d.tag, 'upload', d.sqlstate, d.error FROM delivered d WHERE d.sqlstate IS NOT NULL
		), forgotten AS (
			UPDATE @schema@.images i SET object_path = NULL FROM delivered d WHERE d.sqlstate IS NOT NULL AND i.image_id = d.tag AND i.object_path = d.path
		)
		SELECT millrace.publish(s.topic_server, s.topic, jsonb_build_object('image_id', d.tag, 'minio_path', d.path)::text, d.tag)
		FROM delivered d, @schema@.object_store s WHERE d.sqlstate IS NULL AND s.topic IS NOT NULL
	$$;
COMMENT ON FUNCTION @schema@.deliver_stored(text[], text[], bytea[], text[], text[]) IS
	'called by the HTTP worker: photos of http_upload() that are in the store are announced; one that the store did not take has no object_path, and its reason in failures';
REVOKE EXECUTE ON FUNCTION @schema@.deliver_stored(text[], text[], bytea[], text[], text[]) FROM PUBLIC;

-- A fault of a whole batch, such as a profile's model that is gone, names no image.
CREATE OR REPLACE FUNCTION @schema@.http_predictions(image_id text) RETURNS json
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	id CONSTANT text := http_predictions.image_id;
	said json;
	described timestamptz;
	reason text;
BEGIN
	SELECT json_agg(json_build_object('profile', p.profile, 'label', p.label, 'confidence', p.confidence, 'model', p.model, 'latency_ms', p.classify_ms) ORDER BY p.profile)
	INTO said FROM @schema@.predictions p WHERE p.image_id = id;
	IF said IS NOT NULL THEN
		RETURN json_build_object('image_id', id, 'status', 'done', 'predictions', said);
	END IF;
	SELECT f.message INTO reason FROM @schema@.failures f WHERE f.image_id = id AND f.stage <> 'upload' ORDER BY f.failure_id DESC LIMIT 1;
	IF reason IS NULL THEN
		SELECT d.created_at INTO described FROM @schema@.descriptors d WHERE d.image_id = id;
		IF FOUND THEN
			SELECT format('profile %s: %s', f.profile, f.message) INTO reason FROM @schema@.failures f
			WHERE f.image_id IS NULL AND f.stage = 'classify' AND f.failed_at >= described ORDER BY f.failure_id LIMIT 1;
		ELSIF NOT EXISTS (SELECT FROM @schema@.images i WHERE i.image_id = id) THEN
			RAISE no_data_found USING MESSAGE = format('there is no image "%s"', id);
		END IF;
	END IF;
	RETURN CASE WHEN reason IS NULL THEN json_build_object('image_id', id, 'status', 'pending', 'predictions', '[]'::json)
		ELSE json_build_object('image_id', id, 'status', 'failed', 'predictions', '[]'::json, 'reason', reason) END;
END $$;
COMMENT ON FUNCTION @schema@.http_predictions(text) IS
	'what every profile says of an image; status done, pending, or failed with its reason.  Whose role it is needs SELECT on predictions, failures, descriptors and images (image_id)';

CREATE OR REPLACE FUNCTION @schema@.http_predict(descriptors real[], profile text DEFAULT NULL) RETURNS json
	LANGUAGE sql STABLE
	AS $$ SELECT millrace.predict_with_profile(@schema_literal@, descriptors, profile) $$;
COMMENT ON FUNCTION @schema@.http_predict(real[], text) IS 'classifies descriptors with a profile: balanced, where it is not named, else the first by name';

-- Descriptors of a photo, or of an object of the store, which is waited for with no transaction open.
CREATE OR REPLACE FUNCTION @schema@.extraction_answer(task uuid) RETURNS millrace.http_response
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	x @schema@.extractions;
	status int;
BEGIN
	SELECT e.* INTO x FROM @schema@.extractions e WHERE e.task_id = task;
	IF NOT FOUND THEN
		RAISE no_data_found USING MESSAGE = format('there is no task %s', task), HINT = 'Tasks of this kind are kept for a day.';
	ELSIF x.finished_at IS NULL THEN
		RETURN millrace.respond_later(202, jsonb_build_object('task_id', task, 'status', 'pending', 'image_id', x.image_id), to_jsonb(task),
			headers => jsonb_build_object('Retry-After', '1'));
	ELSIF x.sqlstate IS NULL THEN
		RETURN millrace.respond(200, jsonb_build_object('image_id', x.image_id, 'descriptors', x.descriptors, 'descriptor_count', cardinality(x.descriptors)));
	END IF;
	-- a missing object, a photo that is none; else the store, or the model, has its troubles
	status := CASE WHEN x.sqlstate = '58P01' THEN 404 WHEN left(x.sqlstate, 2) IN ('22', '0A', '54') THEN 422 ELSE 503 END;
	RETURN millrace.respond(status, jsonb_build_object('code', x.sqlstate, 'message', x.message, 'details', format('object %s', x.object_path), 'hint', NULL),
		CASE status WHEN 503 THEN '{"Retry-After": "10"}'::jsonb END);
END $$;
COMMENT ON FUNCTION @schema@.extraction_answer(uuid) IS 'the answer to POST /extract of an object';
REVOKE EXECUTE ON FUNCTION @schema@.extraction_answer(uuid) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.http_extract(file bytea DEFAULT NULL, image_id text DEFAULT NULL, minio_path text DEFAULT NULL) RETURNS millrace.http_response
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
#variable_conflict use_column
DECLARE
	store @schema@.object_store;
	path CONSTANT text := regexp_replace(http_extract.minio_path, '^s3://', '');
	described real[];
	task uuid;
BEGIN
	IF (file IS NULL) = (path IS NULL) THEN
		RAISE invalid_parameter_value USING MESSAGE = 'either a file or a minio_path is needed',
			HINT = 'Send {"image_id": …, "minio_path": "bucket/key"} as JSON, or a form with a part "file".';
	END IF;
	IF file IS NOT NULL THEN
		described := @extschema@.extract_descriptors(file, @schema@.descriptor_model());
		RETURN millrace.respond(200, jsonb_build_object('image_id', http_extract.image_id, 'descriptors', described, 'descriptor_count', cardinality(described)));
	END IF;
	SELECT o.* INTO store FROM @schema@.object_store o;
	IF NOT FOUND THEN
		RAISE invalid_parameter_value USING MESSAGE = format('pipeline "%s" has no object server, so it takes no minio_path', @schema_literal@),
			HINT = format('SELECT %I.fetch_from(…) names one; a form with a part "file" needs none.', @schema_literal@);
	ELSIF NOT starts_with(path, store.bucket || '/') THEN
		-- fetched with the owner's rights at the store: other buckets are not the request's to name
		RAISE insufficient_privilege USING MESSAGE = format('objects of bucket "%s" alone may be asked for', store.bucket);
	END IF;
	DELETE FROM @schema@.extractions e WHERE e.asked_at < now() - interval '1 day';
	INSERT INTO @schema@.extractions AS e (image_id, object_path) VALUES (http_extract.image_id, path) RETURNING e.task_id INTO task;
	PERFORM millrace.fetch_object(store.server, path, format('%I.deliver_extractions', @schema_literal@), task::text);
	RETURN @schema@.extraction_answer(task);
END $$;
COMMENT ON FUNCTION @schema@.http_extract(bytea, text, text) IS
	'descriptors of a photo, stored nowhere: of a file, or of an object of the pipeline''s bucket.  GRANT EXECUTE to those who may';

CREATE OR REPLACE FUNCTION @schema@.http_extract_poll(poll jsonb) RETURNS millrace.http_response
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ SELECT @schema@.extraction_answer((poll #>> '{}')::uuid) $$;
COMMENT ON FUNCTION @schema@.http_extract_poll(jsonb) IS 'whether an object that POST /extract waits for is there';

CREATE OR REPLACE FUNCTION @schema@.http_extraction(task_id uuid) RETURNS millrace.http_response
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$ SELECT a.status, a.content_type, a.body, a.headers, NULL::jsonb FROM @schema@.extraction_answer(task_id) a $$;
COMMENT ON FUNCTION @schema@.http_extraction(uuid) IS 'what has become of a task that POST /extract answered by 202';
REVOKE EXECUTE ON FUNCTION @schema@.http_extract(bytea, text, text), @schema@.http_extract_poll(jsonb), @schema@.http_extraction(uuid) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.deliver_extractions(tags text[], paths text[], contents bytea[], sqlstates text[], errors text[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	describing text;
	fault text;
BEGIN
	BEGIN
		describing := @schema@.descriptor_model();
	EXCEPTION WHEN object_not_in_prerequisite_state OR invalid_parameter_value THEN
		fault := SQLERRM;
	END;
	UPDATE @schema@.extractions e
	SET descriptors = x.descriptors, finished_at = clock_timestamp(),
		sqlstate = COALESCE(d.sqlstate, CASE WHEN describing IS NULL THEN '55000' END, x.sqlstate), message = COALESCE(d.error, fault, x.message)
	FROM unnest(tags, sqlstates, errors) WITH ORDINALITY d(tag, sqlstate, error, n)
		LEFT JOIN LATERAL millrace.try_extract_descriptors(contents[d.n], describing) x ON describing IS NOT NULL AND d.sqlstate IS NULL
	WHERE e.task_id::text = d.tag AND e.finished_at IS NULL;
END $$;
COMMENT ON FUNCTION @schema@.deliver_extractions(text[], text[], bytea[], text[], text[]) IS 'called by the HTTP worker: objects that POST /extract asked for';
REVOKE EXECUTE ON FUNCTION @schema@.deliver_extractions(text[], text[], bytea[], text[], text[]) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.http_health() RETURNS millrace.http_response
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT millrace.pipeline_health(@schema_literal@,
			jsonb_build_array(jsonb_build_object('use', 'descriptors', 'task', 'descriptors', 'model', (SELECT p.options -> 'descriptor_model' FROM millrace.pipelines p WHERE p.name = @schema_literal@)))
			|| COALESCE((SELECT jsonb_agg(jsonb_build_object('use', 'profile ' || p.profile, 'task', 'classifier', 'model', p.model) ORDER BY p.profile) FROM @schema@.profiles p WHERE p.enabled), '[]'),
			(SELECT jsonb_build_object('failures_last_hour', count(*)) FROM @schema@.failures f WHERE f.failed_at > now() - interval '1 hour'))
	$$;
CREATE INDEX IF NOT EXISTS failures_failed ON @schema@.failures (failed_at);
COMMENT ON FUNCTION @schema@.http_health() IS 'whether descriptors and predictions can be made, and sources run';

SELECT millrace.set_pipeline_routes(@schema_literal@, (@options@::jsonb) ->> 'http_prefix', $routes$[
	{"method": "POST", "path": "/upload", "function": "http_upload(bytea, text)", "body": ["multipart"], "summary": "Store a photo and process it", "responses": {
		"201": {"description": "stored, and processed: see /predictions", "schema": {"type": "object", "required": ["image_id", "object_path"], "properties": {
			"image_id": {"type": "string"}, "object_path": {"type": ["string", "null"]}}}},
		"409": {"description": "there is another image of this id"}}},
	{"method": "GET", "path": "/predictions/{image_id}", "function": "http_predictions(text)", "summary": "What every profile says of an image", "responses": {
		"200": {"description": "predictions, or why there are none", "schema": {"type": "object", "required": ["image_id", "status", "predictions"], "properties": {
			"image_id": {"type": "string"}, "status": {"enum": ["done", "pending", "failed"]}, "reason": {"type": "string"},
			"predictions": {"type": "array", "items": {"type": "object", "required": ["profile", "label", "confidence", "model", "latency_ms"], "properties": {
				"profile": {"type": "string"}, "label": {"type": "string"}, "confidence": {"type": "number"}, "model": {"type": "string"}, "latency_ms": {"type": "number"}}}}}}},
		"404": {"description": "there is no such image"}}},
	{"method": "POST", "path": "/predict", "function": "http_predict(real[], text)", "body": ["json"], "read_only": true, "summary": "Classify descriptors", "responses": {
		"200": {"description": "the likeliest class", "schema": {"type": "object", "required": ["label", "confidence", "model", "latency_ms"], "properties": {
			"label": {"type": "string"}, "confidence": {"type": "number"}, "model": {"type": "string"}, "latency_ms": {"type": "number"}}}}}},
	{"method": "GET", "path": "/extract/{task_id}", "function": "http_extraction(uuid)", "summary": "What has become of an object whose descriptors were asked for", "responses": {
		"200": {"description": "descriptors", "schema": {"type": "object", "required": ["image_id", "descriptors", "descriptor_count"], "properties": {
			"image_id": {"type": ["string", "null"]}, "descriptors": {"type": "array", "items": {"type": "number"}}, "descriptor_count": {"type": "integer"}}}},
		"202": {"description": "not there yet", "schema": {"type": "object", "required": ["task_id", "status"], "properties": {
			"task_id": {"type": "string", "format": "uuid"}, "status": {"enum": ["pending"]}, "image_id": {"type": ["string", "null"]}}}},
		"404": {"description": "there is no such task, or no such object"}, "422": {"description": "the object is no photo"}}},
	{"method": "POST", "path": "/extract", "function": "http_extract(bytea, text, text)", "body": ["json", "multipart"], "poll_function": "http_extract_poll(jsonb)",
		"summary": "Descriptors of a photo or of an object of the store", "responses": {
		"200": {"description": "descriptors", "schema": {"type": "object", "required": ["image_id", "descriptors", "descriptor_count"], "properties": {
			"image_id": {"type": ["string", "null"]}, "descriptors": {"type": "array", "items": {"type": "number"}}, "descriptor_count": {"type": "integer"}}}},
		"202": {"description": "the object is still on its way: see GET /extract/{task_id}", "schema": {"type": "object", "required": ["task_id", "status"], "properties": {
			"task_id": {"type": "string", "format": "uuid"}, "status": {"enum": ["pending"]}, "image_id": {"type": ["string", "null"]}}}},
		"404": {"description": "there is no such object"}, "422": {"description": "the object is no photo"}}}
]$routes$::jsonb || millrace.common_routes());
