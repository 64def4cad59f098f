-- Pipeline datasets: audits of a few tiny images, all that is wrong planted by hand.
SET client_min_messages = warning;
\set VERBOSITY terse
\pset null -
CREATE ROLE regress_mill LOGIN IN ROLE millrace_admin, millrace_modeler, millrace_user;
SELECT pg_catalog.format('GRANT CREATE ON DATABASE %I TO regress_mill', pg_catalog.current_database()) \gexec
SET ROLE regress_mill;
SELECT millrace.create_pipeline('datasets', 'regress_d');
-- no detector, no training here
UPDATE regress_d.checks SET enabled = false WHERE "check" NOT IN ('files', 'images', 'annotations', 'classes');

-- options
SELECT regress_d.audit('nothing');
SELECT regress_d.create_dataset('pets', class_names => '{cat,dog,"the owl"}');
SELECT regress_d.audit('pets', '[]');
SELECT regress_d.audit('pets', '{"checkz": ["files"]}');
SELECT regress_d.audit('pets', '{"skip": ["filez"]}');
SELECT regress_d.audit('pets', '{"severity": {"dark": "bad"}}');
SELECT regress_d.audit('pets', '{"severity": {"darkness": "off"}}');
SELECT regress_d.audit('pets', '{"thresholds": {"dark": {"brightness": 1}}}');
SELECT regress_d.audit('pets', '{"thresholds": {"dark": {"share": "much"}}}');
SELECT regress_d.audit('pets', '{"thresholds": {"dark": 1}}');
UPDATE regress_d.checks SET function = 'nothing' WHERE "check" = 'images';
SELECT regress_d.audit('pets');
UPDATE regress_d.checks SET function = 'check_images' WHERE "check" = 'images';
-- a failed audit leaves no run, one of nothing finds nothing
SELECT count(*) FROM regress_d.runs;
SELECT regress_d.audit('pets') > 0 AS run;
SELECT count(*) FROM regress_d.findings;
SELECT dataset, images, annotations, classes, stale, blocking, warnings, notes, trainable FROM regress_d.health;

-- a picture, 64 x 48 pixels, and what is wrong with others
CREATE TEMP TABLE pics AS SELECT image_resize(decode('iVBORw0KGgoAAAANSUhEUgAAAAQAAAACCAIAAADwyuo0AAAAHElEQVR4nCXGsQ0AAAjAIEz8/+U6yIQQqnb+DAd06AcAD8h2vwAAAABJRU5ErkJggg==', 'base64'), 64, 48, 'stretch', 'png') AS png;
INSERT INTO regress_d.images (dataset, split, path, content)
	SELECT 'pets', v.split, v.path, v.content FROM pics, LATERAL (VALUES
		('train', 'a.png', png), ('train', 'b.png', png), ('train', 'c.png', png), ('val', 'd.png', png), ('val', 'empty.png', png),
		('train', 'missing.png', NULL), ('train', 'jpeg.png', image_resize(png, 64, 48)), ('train', 'cut.png', substr(png, 1, length(png) - 50)),
		('train', 'noise.png', '\x00010203'::bytea), ('train', 'gif.png', 'GIF89a'::bytea), ('train', 'small.png', image_resize(png, 8, 6, 'stretch', 'png')),
		('train', 'wide.png', image_resize(png, 220, 14, 'stretch', 'png'))) AS v (split, path, content);
INSERT INTO regress_d.annotations (image_id, class_id, x1, y1, x2, y2)
	SELECT i.image_id, v.class_id, v.x1, v.y1, v.x2, v.y2 FROM regress_d.images i JOIN (VALUES
		('a.png', 0, 10, 10, 30, 30), ('a.png', 0, 10, 10, 30, 29.5), ('a.png', 1, 10, 10, 30, 30), ('a.png', 0, 12, 10, 33, 30),
		('b.png', 7, 5, 5, 20, 20), ('b.png', 1, 30, 30, 30, 40), ('b.png', 1, 'NaN'::real, 1, 10, 10), ('b.png', 1, 40, 40, 60, 60),
		('c.png', 1, 0, 0, 64, 48), ('c.png', 1, 5, 5, 7, 20), ('d.png', 2, 5, 5, 20, 20), ('missing.png', 0, 1, 1, 20, 20),
		('jpeg.png', 0, 1, 1, 20, 20), ('cut.png', 0, 1, 1, 20, 20), ('noise.png', 0, 1, 1, 20, 20), ('gif.png', 0, 1, 1, 20, 20), ('small.png', 0, 1, 1, 6, 5),
		('wide.png', 0, 1, 1, 12, 12)) AS v (path, class_id, x1, y1, x2, y2) USING (path);
INSERT INTO regress_d.problems (dataset, path, line, kind, detail) VALUES ('pets', 'labels/a.txt', 3, 'missing_columns', '4 columns'), ('pets', 'x.json', NULL, 'invalid_json', 'a comma');
SELECT stale FROM regress_d.health;
SELECT regress_d.audit('pets') > 0 AS run;
CREATE TEMP VIEW seen AS SELECT f."check", f.kind, f.severity, f.split, f.path, f.class_name, round(f.score::numeric, 3) AS score, a.x1, f.suggestion
	FROM regress_d.latest_findings f LEFT JOIN regress_d.annotations a USING (annotation_id);
SELECT kind, severity, split, path, class_name, score, x1 FROM seen ORDER BY "check", kind, path, score, class_name;
SELECT DISTINCT kind, suggestion FROM seen ORDER BY 1, 2;
SELECT dataset, images, annotations, classes, stale, blocking, waived, warnings, notes, trainable FROM regress_d.health;
SELECT figures - 'seconds' - 'rules' - 'images_median' - 'boxes' FROM regress_d.runs ORDER BY run_id DESC LIMIT 1;
SELECT regress_d.refuse_blocked('pets');

-- again: nothing is measured twice, the same is found; a threshold, a severity, a check left out
CREATE TEMP TABLE first AS SELECT kind, path, score FROM seen;
SELECT regress_d.audit('pets') > 0 AS run;
SELECT figures -> 'new_images' AS new_images FROM regress_d.runs ORDER BY run_id DESC LIMIT 1;
SELECT count(*) FROM (SELECT * FROM first EXCEPT ALL SELECT kind, path, score FROM seen) d;
SELECT regress_d.audit('pets', '{"checks": ["annotations"], "severity": {"duplicate_box": "blocking", "tiny_box": "off"}, "thresholds": {"overlapping_boxes": {"iou": 0.9}}}') > 0 AS run;
SELECT kind, severity, count(*) FROM seen GROUP BY 1, 2 ORDER BY 1, 2;
-- what a data set always wants
UPDATE regress_d.datasets SET options = '{"skip": ["files", "images", "classes"], "thresholds": {"tiny_box": {"pixels": 1}}}' WHERE dataset = 'pets';
SELECT regress_d.audit('pets', '{"thresholds": {"overlapping_boxes": {"iou": 0.99}}}') > 0 AS run;
SELECT options FROM regress_d.runs ORDER BY run_id DESC LIMIT 1;
SELECT kind, count(*) FROM seen GROUP BY 1 ORDER BY 1;
UPDATE regress_d.datasets SET options = '{}' WHERE dataset = 'pets';

-- a file that comes after all is measured; one that is renamed is looked at again
UPDATE regress_d.images SET content = (SELECT png FROM pics) WHERE path = 'missing.png';
UPDATE regress_d.images SET path = 'was.jpg' WHERE path = 'jpeg.png';
SELECT regress_d.audit('pets') > 0 AS run;
SELECT figures -> 'new_images' AS new_images FROM regress_d.runs ORDER BY run_id DESC LIMIT 1;
SELECT kind, path FROM seen WHERE path IN ('missing.png', 'was.jpg') AND kind <> 'exact_duplicate';

-- rows that training can use
SELECT split, class_id, class_name, images, objects, round(share::numeric, 3) AS share, round(effective::numeric, 2) AS effective FROM regress_d.class_counts('pets');
SELECT class_name, objects, round(weight::numeric, 4) AS balanced FROM regress_d.class_weights('pets');
SELECT class_name, round(weight::numeric, 4) AS inverse FROM regress_d.class_weights('pets', 'inverse');
SELECT class_name, round(weight::numeric, 4) AS effective FROM regress_d.class_weights('pets', 'effective', beta => 0.9);
SELECT regress_d.class_weights('pets', 'even');
SELECT regress_d.class_weights('pets', beta => 1);
SELECT path, class_id, round(repeats::numeric, 3) AS repeats, copies BETWEEN floor(repeats) AND ceil(repeats) AS rounded FROM regress_d.oversampling_plan('pets') ORDER BY path;
SELECT class_id, boxes, small, medium, large FROM regress_d.box_sizes('pets') ORDER BY 1;
SELECT regress_d.csv_line('a', NULL, 'b,c', 'say "x"', E'two\nlines');
SELECT split_part(regress_d.findings_csv('pets'), E'\n', 1) AS header;
-- of the normal distribution
SELECT round(regress_d.normal_quantile(0.975)::numeric, 2);

-- measuring apart from an audit
SELECT regress_d.create_dataset('more', 'classification', '{x}');
INSERT INTO regress_d.images (dataset, path, content) SELECT 'more', n || '.png', png FROM pics, generate_series(1, 5) n;
INSERT INTO regress_d.annotations (image_id, class_id) SELECT image_id, c FROM regress_d.images, (VALUES (0), (0), (1)) v (c) WHERE path = '1.png' AND dataset = 'more';
SELECT regress_d.measure('more', 2), regress_d.measure('more', 2);
CALL regress_d.measure_all('more', 2);
SELECT count(*), count(embedding), min(embedded_by) FROM regress_d.facts JOIN regress_d.images USING (image_id) WHERE dataset = 'more';
SELECT round(sum(x * x)::numeric, 4) FROM (SELECT DISTINCT embedding FROM regress_d.facts JOIN regress_d.images USING (image_id) WHERE dataset = 'more') f, unnest(embedding) x;
SELECT regress_d.audit('more', '{"checks": ["files", "annotations", "classes"]}') > 0 AS run;
SELECT kind, severity, path, evidence FROM regress_d.latest_findings WHERE dataset = 'more' ORDER BY 1, 3;
SELECT dataset, kind, findings, images, waived FROM regress_d.findings_summary WHERE severity = 'blocking' ORDER BY 1, 2;

-- whether boxes lie where objects are
SELECT looked_at, fit > 0 AS fits, move FROM millrace.box_fit((SELECT png FROM pics), '{8,8,40,40}');
SELECT * FROM millrace.box_fit((SELECT png FROM pics), '{}');
SELECT * FROM millrace.box_fit((SELECT png FROM pics), '{NaN,0,Infinity,1}');
SELECT * FROM millrace.box_fit('GIF89a'::bytea, '{1,2,30,40}');
SELECT millrace.box_fit((SELECT png FROM pics), '{1,2,3}');
SELECT millrace.box_fit((SELECT png FROM pics), '{1,2,3,NULL}');
UPDATE regress_d.checks SET enabled = true WHERE "check" = 'placement';
SELECT regress_d.audit('pets', '{"checks": ["placement"]}') > 0 AS run;
SELECT count(*) AS fits, count(fit) AS looked_at FROM regress_d.fits;
SELECT kind, path FROM seen;

-- an upgrade keeps what was changed in kinds and checks
UPDATE regress_d.kinds SET severity = 'info' WHERE kind = 'dark';
SELECT millrace.upgrade_pipeline('regress_d');
SELECT severity FROM regress_d.kinds WHERE kind = 'dark';
SELECT millrace.drop_pipeline('regress_d');
RESET ROLE;
DROP OWNED BY regress_mill;
DROP ROLE regress_mill;
