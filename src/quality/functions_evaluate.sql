-- quality: how good a detector is

CREATE FUNCTION millrace.detection_metrics(
		truth_images bigint[], truth_classes int[], truth_boxes real[], truth_areas real[], truth_crowds boolean[],
		images bigint[], classes int[], scores real[], boxes real[], max_detections int DEFAULT 100,
		OUT class_id int, OUT area text, OUT truths bigint, OUT detections bigint,
		OUT map50 double precision, OUT map75 double precision, OUT map50_95 double precision,
		OUT recall_1 double precision, OUT recall_10 double precision, OUT recall_max double precision,
		OUT "precision" double precision, OUT recall double precision, OUT f1 double precision, OUT threshold double precision,
		OUT ap real[], OUT recalls real[], OUT curve real[], OUT curve_confidence real[])
	RETURNS SETOF record
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 100000
	AS 'MODULE_PATHNAME', 'millrace_detection_metrics';
COMMENT ON FUNCTION millrace.detection_metrics(bigint[], int[], real[], real[], boolean[], bigint[], int[], real[], real[], int) IS
	'average precision as COCO defines it, a row for each class (NULL: the mean of those that have objects) and range of areas (all, small, medium, large): objects and detections as arrays of equal length, boxes flat (x1, y1, x2, y2); precision, recall and f1 are the best at IoU 0.5, for detections from threshold on (that of the mean is one for all classes); ap and recalls are by IoU 0.50, 0.55 … 0.95, curve by recall 0.00, 0.01 … 1.00';

CREATE FUNCTION millrace.match_detections(
		truth_images bigint[], truth_classes int[], truth_boxes real[], truth_areas real[], truth_crowds boolean[],
		images bigint[], classes int[], scores real[], boxes real[], iou real DEFAULT 0.45,
		OUT truth int, OUT detection int, OUT overlap real, OUT in_crowd boolean)
	RETURNS SETOF record
	LANGUAGE c IMMUTABLE PARALLEL SAFE COST 100000
	AS 'MODULE_PATHNAME', 'millrace_match_detections';
COMMENT ON FUNCTION millrace.match_detections(bigint[], int[], real[], real[], boolean[], bigint[], int[], real[], real[], real) IS
	'which detection goes with which object, whatever their classes: positions in the arrays, from 1; truth is NULL for a detection of nothing, detection for an object that was missed; overlap of a detection of nothing is that with the object it overlaps most';

CREATE FUNCTION millrace.mcnemar(a_only bigint, b_only bigint) RETURNS double precision
	LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE
	AS 'MODULE_PATHNAME', 'millrace_mcnemar';
COMMENT ON FUNCTION millrace.mcnemar(bigint, bigint) IS
	'probability, two-sided and exact, of numbers so different, were it as likely that only a is right as that only b is';
