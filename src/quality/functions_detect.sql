-- quality: detection

CREATE FUNCTION @extschema@.detect(image bytea, model text DEFAULT NULL, confidence double precision DEFAULT 0.25,
		iou double precision DEFAULT 0.45, nms text DEFAULT 'class', max_detections integer DEFAULT 300)
	RETURNS SETOF millrace.detection
	LANGUAGE c STABLE PARALLEL SAFE COST 1000 ROWS 5
	AS 'MODULE_PATHNAME', 'millrace_detect';
COMMENT ON FUNCTION @extschema@.detect(bytea, text, double precision, double precision, text, integer) IS
	'objects that a detector of the YOLO family sees in a JPEG or PNG, surest first; nms is class, agnostic, soft or none: of boxes that overlap by more than iou the surest stays';

CREATE FUNCTION @extschema@.detections_json(image bytea, model text DEFAULT NULL, confidence double precision DEFAULT 0.25,
		iou double precision DEFAULT 0.45)
	RETURNS jsonb
	LANGUAGE c STABLE PARALLEL SAFE COST 1000
	AS 'MODULE_PATHNAME', 'millrace_detections_json';
COMMENT ON FUNCTION @extschema@.detections_json(bytea, text, double precision, double precision) IS
	'the same as one document: detections with class_id, class_name, confidence and bbox, their count, image_shape';

CREATE FUNCTION millrace.detect_rows(images bytea[], model text DEFAULT NULL, confidence double precision DEFAULT 0.25,
		iou double precision DEFAULT 0.45, nms text DEFAULT 'class', max_detections integer DEFAULT 300)
	RETURNS TABLE (image integer, detections millrace.detection[], sqlstate text, message text)
	LANGUAGE c STABLE PARALLEL SAFE COST 10000 ROWS 10
	AS 'MODULE_PATHNAME', 'millrace_detect_rows';
COMMENT ON FUNCTION millrace.detect_rows(bytea[], text, double precision, double precision, text, integer) IS
	'detect() for many images, a row each, in order from 1; a bad image is sqlstate and message instead of an error';

-- quality: overlap of boxes

CREATE FUNCTION millrace.box_iou(a real[], b real[]) RETURNS real
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_box_iou';
COMMENT ON FUNCTION millrace.box_iou(real[], real[]) IS
	'intersection over union of two boxes {x1, y1, x2, y2}; 0 for boxes without an area';

CREATE FUNCTION millrace.box_iou(a box, b box) RETURNS real
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_box_iou_geometric';
COMMENT ON FUNCTION millrace.box_iou(box, box) IS
	'intersection over union of two boxes; a GiST index on box finds with && those for which it is not 0';

CREATE FUNCTION millrace.box_iou(a millrace.detection, b millrace.detection) RETURNS real
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN millrace.box_iou(ARRAY[(a).x1, (a).y1, (a).x2, (a).y2], ARRAY[(b).x1, (b).y1, (b).x2, (b).y2]);
COMMENT ON FUNCTION millrace.box_iou(millrace.detection, millrace.detection) IS
	'intersection over union of two detections'' boxes, whatever their classes';

CREATE FUNCTION millrace.detection_box(d millrace.detection) RETURNS box
	LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
	RETURN pg_catalog.box(pg_catalog.point((d).x1, (d).y1), pg_catalog.point((d).x2, (d).y2));
COMMENT ON FUNCTION millrace.detection_box(millrace.detection) IS
	'a detection''s place as PostgreSQL''s type box, for its operators and GiST indexes';

CREATE OPERATOR millrace.&/| (LEFTARG = real[], RIGHTARG = real[], FUNCTION = millrace.box_iou, COMMUTATOR = OPERATOR(millrace.&/|));
COMMENT ON OPERATOR millrace.&/| (real[], real[]) IS 'intersection over union of two boxes {x1, y1, x2, y2}';
CREATE OPERATOR millrace.&/| (LEFTARG = box, RIGHTARG = box, FUNCTION = millrace.box_iou, COMMUTATOR = OPERATOR(millrace.&/|));
COMMENT ON OPERATOR millrace.&/| (box, box) IS 'intersection over union of two boxes';
CREATE OPERATOR millrace.&/| (LEFTARG = millrace.detection, RIGHTARG = millrace.detection, FUNCTION = millrace.box_iou, COMMUTATOR = OPERATOR(millrace.&/|));
COMMENT ON OPERATOR millrace.&/| (millrace.detection, millrace.detection) IS 'intersection over union of two detections'' boxes';

REVOKE EXECUTE ON FUNCTION
	@extschema@.detect(bytea, text, double precision, double precision, text, integer),
	@extschema@.detections_json(bytea, text, double precision, double precision),
	millrace.detect_rows(bytea[], text, double precision, double precision, text, integer)
	FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
	@extschema@.detect(bytea, text, double precision, double precision, text, integer),
	@extschema@.detections_json(bytea, text, double precision, double precision),
	millrace.detect_rows(bytea[], text, double precision, double precision, text, integer)
	TO millrace_user;

-- quality: the cache of detections

CREATE FUNCTION millrace.detection_cache_statistics(OUT entries bigint, OUT bytes bigint, OUT size bigint,
		OUT hits bigint, OUT misses bigint, OUT evicted bigint, OUT since timestamptz)
	LANGUAGE c VOLATILE PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_detection_cache_statistics';
COMMENT ON FUNCTION millrace.detection_cache_statistics() IS
	'what view millrace.stat_detection_cache shows';

CREATE FUNCTION millrace.clear_detection_cache() RETURNS void
	LANGUAGE c VOLATILE PARALLEL UNSAFE
	AS 'MODULE_PATHNAME', 'millrace_clear_detection_cache';
COMMENT ON FUNCTION millrace.clear_detection_cache() IS
	'forget all cached detections, of every database, and their counters; never needed for right answers';

REVOKE EXECUTE ON FUNCTION millrace.detection_cache_statistics(), millrace.clear_detection_cache() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.detection_cache_statistics() TO millrace_user, millrace_monitor;
GRANT EXECUTE ON FUNCTION millrace.clear_detection_cache() TO millrace_admin;
