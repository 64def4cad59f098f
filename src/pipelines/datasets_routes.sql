-- Pipeline "datasets", over HTTP: what the detector sees in an image.
--
-- Run behind datasets_look.sql, and again by upgrade_pipeline().  Both run as the pipeline's owner: who may call them needs EXECUTE and
-- nothing else.  They store nothing.

CREATE OR REPLACE FUNCTION @schema@.route_detector(model text) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	own CONSTANT text := COALESCE((SELECT s.detector FROM @schema@.settings s), NULLIF(current_setting('millrace.detector', true), ''));
BEGIN
	IF model IS NOT NULL THEN
		RETURN millrace.route_model(model, 'detector', '22023');
	ELSIF own IS NULL THEN
		RAISE object_not_in_prerequisite_state USING MESSAGE = 'no detector is set', HINT = 'Name one as parameter "model", or UPDATE @schema@.settings SET detector = ''name''.';
	END IF;
	RETURN millrace.route_model(own, 'detector');
END $$;
COMMENT ON FUNCTION @schema@.route_detector(text) IS 'name:version of the detector that a request names, or the settings';
REVOKE EXECUTE ON FUNCTION @schema@.route_detector(text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.http_detections(file bytea, confidence double precision DEFAULT NULL, iou double precision DEFAULT NULL, model text DEFAULT NULL) RETURNS json
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT @extschema@.detections_json(http_detections.file, @schema@.route_detector(http_detections.model),
			COALESCE(http_detections.confidence, s.confidence), COALESCE(http_detections.iou, s.iou))::json
		FROM @schema@.settings s
	$$;
COMMENT ON FUNCTION @schema@.http_detections(bytea, double precision, double precision, text) IS
	'objects that the detector sees in an image; confidence, iou and model: by default those of the settings.  GRANT EXECUTE to those who may';

CREATE OR REPLACE FUNCTION @schema@.http_annotated(file bytea, confidence double precision DEFAULT NULL, iou double precision DEFAULT NULL, model text DEFAULT NULL)
	RETURNS millrace."image/jpeg"
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT @extschema@.image_annotate(http_annotated.file, ARRAY(
			SELECT d FROM @schema@.settings s, LATERAL @extschema@.detect(http_annotated.file, @schema@.route_detector(http_annotated.model),
				COALESCE(http_annotated.confidence, s.confidence), COALESCE(http_annotated.iou, s.iou)) d))::millrace."image/jpeg"
	$$;
COMMENT ON FUNCTION @schema@.http_annotated(bytea, double precision, double precision, text) IS 'the image as JPEG, with those objects drawn.  GRANT EXECUTE to those who may';
REVOKE EXECUTE ON FUNCTION @schema@.http_detections(bytea, double precision, double precision, text),
	@schema@.http_annotated(bytea, double precision, double precision, text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.http_health() RETURNS millrace.http_response
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
		SELECT millrace.pipeline_health(@schema_literal@,
			CASE WHEN m.detector IS NULL THEN '[]' ELSE jsonb_build_array(jsonb_build_object('use', 'detector', 'task', 'detector', 'model', m.detector)) END,
			jsonb_build_object('failures_last_hour', 0), CASE WHEN m.detector IS NULL THEN ARRAY['no detector is set'] ELSE '{}' END)
		FROM (SELECT COALESCE(s.detector, NULLIF(current_setting('millrace.detector', true), '')) AS detector FROM @schema@.settings s) m
	$$;
COMMENT ON FUNCTION @schema@.http_health() IS 'whether there is a detector';

SELECT millrace.set_pipeline_routes(@schema_literal@, (@options@::jsonb) ->> 'http_prefix', $routes$[
	{"method": "POST", "path": "/predict", "function": "http_annotated(bytea, double precision, double precision, text)", "body": ["multipart"], "read_only": true,
		"summary": "The image with what is seen in it", "responses": {"200": {"description": "the image, boxes and labels drawn", "content_type": "image/jpeg"}}},
	{"method": "POST", "path": "/predict/json", "function": "http_detections(bytea, double precision, double precision, text)", "body": ["multipart"], "read_only": true,
		"summary": "What is seen in an image", "responses": {
		"200": {"description": "objects, the surest first", "schema": {"type": "object", "required": ["detections", "count", "image_shape"], "properties": {
			"detections": {"type": "array", "items": {"type": "object", "required": ["class_id", "class_name", "confidence", "bbox"], "properties": {
				"class_id": {"type": "integer"}, "class_name": {"type": "string"}, "confidence": {"type": "number"}, "bbox": {"type": "object", "required": ["x1", "y1", "x2", "y2"], "properties": {
					"x1": {"type": "number"}, "y1": {"type": "number"}, "x2": {"type": "number"}, "y2": {"type": "number"}}}}}},
			"count": {"type": "integer"}, "image_shape": {"type": "object", "required": ["width", "height"], "properties": {"width": {"type": "integer"}, "height": {"type": "integer"}}}}}}}}
]$routes$::jsonb || millrace.common_routes());
