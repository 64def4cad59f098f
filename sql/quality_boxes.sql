-- Overlap of boxes, and what detect() refuses before it looks at a model's answer.
SELECT millrace.box_iou('{0,0,2,2}'::real[], '{1,1,3,3}') = (1 / 7.0)::real AS seventh,
	millrace.box_iou('{0,0,2,2}'::real[], '{0,0,2,2}') AS same,
	millrace.box_iou('{0,0,2,2}'::real[], '{2,0,4,2}') AS touching,
	millrace.box_iou('{1,1,1,1}'::real[], '{1,1,1,1}') AS no_area,
	millrace.box_iou('{1e30,0,2e30,1e30}'::real[], '{1e30,0,2e30,1e30}') AS huge,
	millrace.box_iou(NULL, '{0,0,1,1}'::real[]) AS nothing;
SELECT '{0,0,4,5}'::real[] OPERATOR(millrace.&/|) '{0,0,4,3}' AS reals,
	box '(4,5),(0,0)' OPERATOR(millrace.&/|) box '(0,0),(4,3)' AS boxes,
	ROW(1, 'cat', 0.9, 0, 0, 4, 5)::millrace.detection OPERATOR(millrace.&/|) ROW(2, 'dog', 0.8, 0, 0, 4, 3)::millrace.detection AS detections,
	millrace.detection_box(ROW(1, 'cat', 0.9, 0, 1, 4, 5)::millrace.detection);
SELECT millrace.box_iou('{1,2,3}'::real[], '{0,0,1,1}');
SELECT millrace.box_iou('{1,2,3,NULL}'::real[], '{0,0,1,1}');
SELECT millrace.box_iou('{1,2,3,NaN}'::real[], '{0,0,1,1}');
SELECT millrace.box_iou('{3,0,1,1}'::real[], '{0,0,1,1}');

-- A GiST index on the boxes finds what can overlap at all.
CREATE TABLE quality_boxes AS
SELECT i, box(point(i % 100, i / 100), point(i % 100 + 1.5, i / 100 + 1.5)) AS place FROM generate_series(0, 9999) i;
CREATE INDEX ON quality_boxes USING gist (place);
ANALYZE quality_boxes;
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT i FROM quality_boxes WHERE place && box '(10.5,10.5),(12,12)' AND place OPERATOR(millrace.&/|) box '(10.5,10.5),(12,12)' > 0.2;
SELECT array_agg(i ORDER BY i) FROM quality_boxes WHERE place && box '(10.5,10.5),(12,12)' AND place OPERATOR(millrace.&/|) box '(10.5,10.5),(12,12)' > 0.2;
RESET enable_seqscan;
SELECT array_agg(i ORDER BY i) FROM quality_boxes WHERE place OPERATOR(millrace.&/|) box '(10.5,10.5),(12,12)' > 0.2;
DROP TABLE quality_boxes;

-- No model, no image.
SELECT * FROM detect('\x00');
SET millrace.detector = '';
SELECT detections_json('\x00');
SET millrace.detector = 'none@best';
SELECT millrace.resolve_model(NULL, 'detector');
RESET millrace.detector;
SHOW millrace.detector;
SHOW millrace.detection_cache_size;
SELECT entries, hits, misses, evicted FROM millrace.stat_detection_cache;
SET ROLE millrace_user;
SELECT hits FROM millrace.stat_detection_cache;
SELECT millrace.clear_detection_cache();
RESET ROLE;
