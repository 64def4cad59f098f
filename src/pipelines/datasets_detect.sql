-- Pipeline "datasets": what detectors find in the images, and how good they are.
--
-- evaluate() takes the objects of a version and the detections of a model version, which detect_images() computes once and keeps, and leaves
-- a run with its metrics and matches.  Classes of the model are those of the data set of the same name; where no name agrees, of the same number.

CREATE TABLE IF NOT EXISTS @schema@.metrics (
	run_id bigint NOT NULL REFERENCES @schema@.runs ON DELETE CASCADE,
	class_id int,
	area text NOT NULL,
	truths bigint NOT NULL,
	detections bigint NOT NULL,
	map50 double precision,
	map75 double precision,
	map50_95 double precision,
	recall_1 double precision,
	recall_10 double precision,
	recall_max double precision,
	"precision" double precision,
	recall double precision,
	f1 double precision,
	threshold double precision,
	ap real[],
	recalls real[],
	curve real[],
	curve_confidence real[]
);
CREATE UNIQUE INDEX IF NOT EXISTS metrics_key ON @schema@.metrics (run_id, area, (coalesce(class_id, -1)));
COMMENT ON TABLE @schema@.metrics IS 'figures of evaluations, for each class and range of areas: millrace.detection_metrics()';
COMMENT ON COLUMN @schema@.metrics.class_id IS 'NULL: the mean of the classes that have objects';
COMMENT ON COLUMN @schema@.metrics.area IS 'all, or objects that are small (less than 32² pixels), medium, large (more than 96²)';
COMMENT ON COLUMN @schema@.metrics.detections IS 'that count, at IoU 0.5: not those in crowds or of another size';
COMMENT ON COLUMN @schema@.metrics."precision" IS 'at threshold, as recall and f1: where f1 is greatest, at IoU 0.5';
COMMENT ON COLUMN @schema@.metrics.ap IS 'average precision by IoU 0.50, 0.55 … 0.95';
COMMENT ON COLUMN @schema@.metrics.curve IS 'precision at IoU 0.5 by recall 0.00, 0.01 … 1.00';

CREATE TABLE IF NOT EXISTS @schema@.matches (
	run_id bigint NOT NULL REFERENCES @schema@.runs ON DELETE CASCADE,
	image_id bigint NOT NULL,
	annotation_id bigint,
	true_class int,
	predicted_class int,
	confidence real,
	overlap real,
	in_crowd boolean NOT NULL,
	x1 real, y1 real, x2 real, y2 real
);
CREATE INDEX IF NOT EXISTS matches_run ON @schema@.matches (run_id, true_class, predicted_class);
COMMENT ON TABLE @schema@.matches IS 'objects with the detection that goes with each, whatever its class, of evaluations';
COMMENT ON COLUMN @schema@.matches.annotation_id IS 'NULL: a detection where nothing is annotated';
COMMENT ON COLUMN @schema@.matches.predicted_class IS 'NULL: an object that was missed';
COMMENT ON COLUMN @schema@.matches.overlap IS 'IoU; of a detection of nothing, with the object it overlaps most';
COMMENT ON COLUMN @schema@.matches.x1 IS 'of the detection';

-- Which class of the data set a detector's class is.
CREATE OR REPLACE FUNCTION @schema@.class_map(reference text, model text) RETURNS TABLE (model_class int, class_id int) LANGUAGE sql STABLE AS $$
	WITH of_model AS (
		SELECT (n - 1)::int AS id, l AS name FROM millrace.models m, unnest(m.labels) WITH ORDINALITY AS u (l, n)
		WHERE m.name = split_part(class_map.model, ':', 1) AND m.version::text = split_part(class_map.model, ':', 2)),
	of_set AS (SELECT c.class_id, c.class_name FROM @schema@.resolve(reference) r JOIN @schema@.classes c USING (dataset)
		UNION SELECT a.class_id, NULL FROM @schema@.annotations_of(reference) a WHERE NOT EXISTS (SELECT FROM @schema@.resolve(reference) r JOIN @schema@.classes c USING (dataset) WHERE c.class_id = a.class_id)),
	same AS (SELECT m.id, s.class_id FROM of_model m JOIN of_set s ON lower(btrim(m.name)) = lower(btrim(s.class_name)))
	SELECT id, same.class_id FROM same
	UNION ALL SELECT s.class_id, s.class_id FROM of_set s WHERE NOT EXISTS (SELECT FROM same)
$$;
COMMENT ON FUNCTION @schema@.class_map(text, text) IS 'classes of a detector (name:version) and of a data set that are the same: by name, or by number where no name agrees';

CREATE OR REPLACE FUNCTION @schema@.detector(model text DEFAULT NULL) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
	wanted text := coalesce(model, (SELECT s.detector FROM @schema@.settings s), nullif(current_setting('millrace.detector', true), ''));
BEGIN
	IF wanted IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'no detector is set',
			HINT = 'Name a model, or UPDATE @schema@.settings SET detector = ''name''.';
	END IF;
	RETURN millrace.resolve_model(wanted);
END $$;
COMMENT ON FUNCTION @schema@.detector(text) IS 'name:version of the model that a reference, or the settings, mean';

CREATE OR REPLACE FUNCTION @schema@.detect_images(reference text, model text DEFAULT NULL, confidence real DEFAULT NULL, iou real DEFAULT NULL, batch int DEFAULT 8)
	RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	detector text := @schema@.detector(model);
	at_least real := coalesce(confidence, (SELECT s.confidence FROM @schema@.settings s));
	at_most real := coalesce(iou, (SELECT s.iou FROM @schema@.settings s));
	todo bigint[];
	done bigint := 0;
	began timestamptz;
	chunk bigint[];
BEGIN
	SELECT array_agg(i.image_id ORDER BY i.image_id) INTO todo FROM @schema@.images_of(reference) i
		WHERE i.content IS NOT NULL AND NOT EXISTS (SELECT FROM @schema@.detections d
			WHERE d.image_id = i.image_id AND d.model = detector AND d.confidence = at_least AND d.iou = at_most);
	WHILE done < coalesce(cardinality(todo), 0) LOOP
		chunk := todo[done + 1 : done + batch];
		began := clock_timestamp();
		INSERT INTO @schema@.detections (image_id, model, confidence, iou, detections, sqlstate, message, detect_ms)
			SELECT chunk[r.image], detector, at_least, at_most, r.detections, r.sqlstate, r.message,
				extract(epoch FROM clock_timestamp() - began) * 1000 / cardinality(chunk)
			FROM millrace.detect_rows((SELECT array_agg(i.content ORDER BY i.image_id) FROM @schema@.images i WHERE i.image_id = ANY (chunk)),
				detector, at_least, at_most) r
			ON CONFLICT DO NOTHING;
		done := done + cardinality(chunk);
	END LOOP;
	RETURN done;
END $$;
COMMENT ON FUNCTION @schema@.detect_images(text, text, real, real, int) IS 'detections for the images of a version that have none of that model, confidence and iou; returns how many images there were';

-- Objects and detections of a version, numbered, for millrace.detection_metrics() and match_detections().
CREATE OR REPLACE FUNCTION @schema@.read_detections(reference text, detector text, confidence real, iou real, splits text[] DEFAULT NULL, only_decoded boolean DEFAULT false) RETURNS void
	LANGUAGE plpgsql AS $$
BEGIN
	CREATE TEMPORARY TABLE IF NOT EXISTS millrace_truths (n int, image_id bigint, annotation_id bigint, class_id int, x1 real, y1 real, x2 real, y2 real, area real, crowd boolean) ON COMMIT DROP;
	CREATE TEMPORARY TABLE IF NOT EXISTS millrace_guesses (n int, image_id bigint, class_id int, confidence real, x1 real, y1 real, x2 real, y2 real) ON COMMIT DROP;
	TRUNCATE pg_temp.millrace_truths, pg_temp.millrace_guesses;
	INSERT INTO pg_temp.millrace_truths
		SELECT row_number() OVER (ORDER BY a.image_id, a.annotation_id), a.image_id, a.annotation_id, a.class_id, a.x1, a.y1, a.x2, a.y2, a.area, a.crowd
		FROM @schema@.annotations_of(reference) a JOIN @schema@.images i USING (image_id)
		WHERE a.x1 IS NOT NULL AND i.content IS NOT NULL AND (splits IS NULL OR i.split = ANY (splits))
			AND (NOT only_decoded OR EXISTS (SELECT FROM @schema@.detections d WHERE d.image_id = a.image_id AND d.model = detector AND d.confidence = read_detections.confidence
				AND d.iou = read_detections.iou AND d.sqlstate IS NULL));
	INSERT INTO pg_temp.millrace_guesses
		SELECT row_number() OVER (ORDER BY i.image_id, x.n), i.image_id, m.class_id, x.confidence, x.x1, x.y1, x.x2, x.y2
		FROM @schema@.images_of(reference) i JOIN @schema@.detections d USING (image_id)
			CROSS JOIN LATERAL unnest(d.detections) WITH ORDINALITY AS x (class_id, class_name, confidence, x1, y1, x2, y2, n)
			JOIN @schema@.class_map(reference, detector) m ON m.model_class = x.class_id
		WHERE d.model = detector AND d.confidence = read_detections.confidence AND d.iou = read_detections.iou AND (splits IS NULL OR i.split = ANY (splits));
END $$;
COMMENT ON FUNCTION @schema@.read_detections(text, text, real, real, text[], boolean) IS
	'objects and detections of a version into the temporary tables millrace_truths and millrace_guesses; splits: of some only; only_decoded: no objects of images that could not be decoded';

CREATE OR REPLACE FUNCTION @schema@.evaluate(reference text, model text DEFAULT NULL, options jsonb DEFAULT '{}') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	detector text := @schema@.detector(model);
	o record;
	unknown text;
	id bigint;
	began timestamptz := clock_timestamp();
	truth record;
	guess record;
BEGIN
	SELECT string_agg(k, ', ') INTO unknown FROM jsonb_object_keys(options) k
		WHERE k NOT IN ('splits', 'confidence', 'iou', 'max_detections', 'match_confidence', 'match_iou');
	IF unknown IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown option of evaluate: %s', unknown),
			HINT = 'Options are splits, confidence, iou, max_detections, match_confidence and match_iou.';
	END IF;
	SELECT e.splits, coalesce(e.confidence, 0.001) AS confidence, coalesce(e.iou, 0.7) AS iou, coalesce(e.max_detections, 100) AS max_detections,
		coalesce(e.match_confidence, 0.25) AS match_confidence, coalesce(e.match_iou, 0.45) AS match_iou INTO o
		FROM jsonb_to_record(options) AS e (splits text[], confidence real, iou real, max_detections int, match_confidence real, match_iou real);
	PERFORM @schema@.refuse_blocked(reference);
	PERFORM @schema@.detect_images(reference, detector, o.confidence, o.iou);
	id := @schema@.begin_run(reference, 'evaluation', detector, options);

	PERFORM @schema@.read_detections(reference, detector, o.confidence, o.iou, o.splits);

	SELECT array_agg(image_id ORDER BY n) AS images, array_agg(class_id ORDER BY n) AS classes, array_agg(area ORDER BY n) AS areas, array_agg(crowd ORDER BY n) AS crowds,
		(SELECT array_agg(v ORDER BY t.n, k) FROM pg_temp.millrace_truths t, unnest(ARRAY[t.x1, t.y1, t.x2, t.y2]) WITH ORDINALITY AS u (v, k)) AS boxes
		INTO truth FROM pg_temp.millrace_truths;
	SELECT array_agg(image_id ORDER BY n) AS images, array_agg(class_id ORDER BY n) AS classes, array_agg(confidence ORDER BY n) AS scores,
		(SELECT array_agg(v ORDER BY g.n, k) FROM pg_temp.millrace_guesses g, unnest(ARRAY[g.x1, g.y1, g.x2, g.y2]) WITH ORDINALITY AS u (v, k)) AS boxes
		INTO guess FROM pg_temp.millrace_guesses;
	INSERT INTO @schema@.metrics
		SELECT id, m.* FROM millrace.detection_metrics(truth.images, truth.classes, truth.boxes, truth.areas, truth.crowds,
			guess.images, guess.classes, guess.scores, guess.boxes, o.max_detections) m;

	DELETE FROM pg_temp.millrace_guesses WHERE confidence < o.match_confidence;
	SELECT array_agg(image_id ORDER BY n) AS images, array_agg(class_id ORDER BY n) AS classes, array_agg(confidence ORDER BY n) AS scores, array_agg(n ORDER BY n) AS rows,
		(SELECT array_agg(v ORDER BY g.n, k) FROM pg_temp.millrace_guesses g, unnest(ARRAY[g.x1, g.y1, g.x2, g.y2]) WITH ORDINALITY AS u (v, k)) AS boxes
		INTO guess FROM pg_temp.millrace_guesses;
	INSERT INTO @schema@.matches
		SELECT id, coalesce(t.image_id, g.image_id), t.annotation_id, t.class_id, g.class_id, g.confidence, m.overlap, coalesce(m.in_crowd, false), g.x1, g.y1, g.x2, g.y2
		FROM millrace.match_detections(truth.images, truth.classes, truth.boxes, truth.areas, truth.crowds,
				guess.images, guess.classes, guess.scores, guess.boxes, o.match_iou) m
			LEFT JOIN pg_temp.millrace_truths t ON t.n = m.truth
			LEFT JOIN pg_temp.millrace_guesses g ON g.n = guess.rows[m.detection];

	UPDATE @schema@.runs r SET ended_at = clock_timestamp(), figures = jsonb_build_object(
			'map50', m.map50, 'map50_95', m.map50_95, 'precision', m."precision", 'recall', m.recall, 'f1', m.f1, 'threshold', m.threshold,
			'objects', m.truths, 'images', (SELECT count(*) FROM @schema@.images_of(reference) i WHERE i.content IS NOT NULL AND (o.splits IS NULL OR i.split = ANY (o.splits))),
			'undecodable', (SELECT count(*) FROM @schema@.images_of(reference) i JOIN @schema@.detections d USING (image_id)
				WHERE d.model = detector AND d.confidence = o.confidence AND d.iou = o.iou AND d.sqlstate IS NOT NULL),
			'seconds', round(extract(epoch FROM clock_timestamp() - began)::numeric, 3))
		FROM @schema@.metrics m WHERE m.run_id = id AND m.class_id IS NULL AND m.area = 'all' AND r.run_id = id;
	UPDATE @schema@.versions v SET frozen_at = coalesce(v.frozen_at, now()) FROM @schema@.resolve(reference) r WHERE v.dataset = r.dataset AND v.version = r.version;
	RETURN id;
END $$;
COMMENT ON FUNCTION @schema@.evaluate(text, text, jsonb) IS
	'evaluates a detector on a version of a data set as COCO does; returns the run: see evaluations, evaluation_by_class, confusion_matrix, pr_curves. Options: splits, confidence (0.001), iou of NMS (0.7), max_detections (100), match_confidence (0.25) and match_iou (0.45) of matches';

CREATE OR REPLACE VIEW @schema@.evaluations AS
	SELECT r.run_id, r.dataset, r.version, r.model, r.options -> 'splits' AS splits, m.truths AS objects, m.map50, m.map50_95, m."precision", m.recall, m.f1, m.threshold,
		s.map50_95 AS map_small, d.map50_95 AS map_medium, l.map50_95 AS map_large, r.started_at, r.ended_at - r.started_at AS took, r.state
	FROM @schema@.runs r JOIN @schema@.metrics m ON m.run_id = r.run_id AND m.class_id IS NULL AND m.area = 'all'
		JOIN @schema@.metrics s ON s.run_id = r.run_id AND s.class_id IS NULL AND s.area = 'small'
		JOIN @schema@.metrics d ON d.run_id = r.run_id AND d.class_id IS NULL AND d.area = 'medium'
		JOIN @schema@.metrics l ON l.run_id = r.run_id AND l.class_id IS NULL AND l.area = 'large'
	WHERE r.activity = 'evaluation';
COMMENT ON VIEW @schema@.evaluations IS 'evaluations of detectors, a line each; precision, recall and f1 are means of the classes at threshold, IoU 0.5';

CREATE OR REPLACE VIEW @schema@.evaluation_by_class AS
	SELECT m.run_id, m.class_id, c.class_name, m.truths AS objects, m.map50, m.map75, m.map50_95, m."precision", m.recall, m.f1, m.threshold, m.recall_1, m.recall_10, m.recall_max
	FROM @schema@.metrics m JOIN @schema@.runs r USING (run_id) LEFT JOIN @schema@.classes c ON c.dataset = r.dataset AND c.class_id = m.class_id
	WHERE m.area = 'all' AND m.class_id IS NOT NULL;
COMMENT ON VIEW @schema@.evaluation_by_class IS 'evaluations by class, each at its own best threshold';

CREATE OR REPLACE VIEW @schema@.confusion_matrix AS
	SELECT m.run_id, m.true_class, coalesce(t.class_name, CASE WHEN m.true_class IS NULL THEN 'background' ELSE m.true_class::text END) AS true_name,
		m.predicted_class, coalesce(p.class_name, CASE WHEN m.predicted_class IS NULL THEN 'background' ELSE m.predicted_class::text END) AS predicted_name, count(*)
	FROM @schema@.matches m JOIN @schema@.runs r USING (run_id)
		LEFT JOIN @schema@.classes t ON t.dataset = r.dataset AND t.class_id = m.true_class
		LEFT JOIN @schema@.classes p ON p.dataset = r.dataset AND p.class_id = m.predicted_class
	WHERE NOT m.in_crowd GROUP BY 1, 2, 3, 4, 5;
COMMENT ON VIEW @schema@.confusion_matrix IS 'objects by their class and that of the detection that goes with them; background: missed, or nothing there';

CREATE OR REPLACE VIEW @schema@.pr_curves AS
	SELECT m.run_id, m.class_id, c.class_name, (u.n - 1) / 100.0::double precision AS recall, u.p AS "precision", m.curve_confidence[u.n] AS confidence
	FROM @schema@.metrics m JOIN @schema@.runs r USING (run_id) LEFT JOIN @schema@.classes c ON c.dataset = r.dataset AND c.class_id = m.class_id,
		unnest(m.curve) WITH ORDINALITY AS u (p, n)
	WHERE m.area = 'all';
COMMENT ON VIEW @schema@.pr_curves IS 'precision by recall at IoU 0.5; class_id NULL: the mean of the classes';

-- Two evaluations of the same images: what is better, and whether that may be chance.
CREATE OR REPLACE FUNCTION @schema@.compare_evaluations(run_a bigint, run_b bigint)
	RETURNS TABLE (class_id int, class_name text, objects bigint, map50_95_a double precision, map50_95_b double precision, difference double precision,
		map50_a double precision, map50_b double precision, f1_a double precision, f1_b double precision,
		found_by_a_only bigint, found_by_b_only bigint, p_value double precision) LANGUAGE plpgsql STABLE AS $$
BEGIN
	IF (SELECT count(DISTINCT (r.dataset, r.state, r.options -> 'splits', r.options -> 'match_iou')) + 2 * (2 - count(*)) FROM @schema@.runs r WHERE r.run_id IN (run_a, run_b) AND r.activity = 'evaluation') <> 1 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('runs %s and %s are not two evaluations of the same images and labels', run_a, run_b),
			HINT = 'Evaluate both models on one version of a data set, with the same splits.';
	END IF;
	RETURN QUERY
	WITH found AS (
		SELECT m.annotation_id, m.true_class, bool_or(m.run_id = run_a AND m.predicted_class = m.true_class) AS a, bool_or(m.run_id = run_b AND m.predicted_class = m.true_class) AS b
		FROM @schema@.matches m WHERE m.run_id IN (run_a, run_b) AND m.annotation_id IS NOT NULL GROUP BY 1, 2),
	sums AS (
		SELECT true_class, count(*) FILTER (WHERE a AND NOT b) AS a_only, count(*) FILTER (WHERE b AND NOT a) AS b_only FROM found GROUP BY GROUPING SETS ((true_class), ()))
	SELECT a.class_id, c.class_name, a.truths, a.map50_95, b.map50_95, b.map50_95 - a.map50_95, a.map50, b.map50, a.f1, b.f1, coalesce(s.a_only, 0), coalesce(s.b_only, 0),
		millrace.mcnemar(coalesce(s.a_only, 0), coalesce(s.b_only, 0))
	FROM @schema@.metrics a JOIN @schema@.metrics b ON b.run_id = run_b AND b.area = 'all' AND b.class_id IS NOT DISTINCT FROM a.class_id
		JOIN @schema@.runs r ON r.run_id = run_a
		LEFT JOIN @schema@.classes c ON c.dataset = r.dataset AND c.class_id = a.class_id
		LEFT JOIN sums s ON s.true_class IS NOT DISTINCT FROM a.class_id
	WHERE a.run_id = run_a AND a.area = 'all' AND a.truths > 0
	ORDER BY a.class_id NULLS FIRST;
END $$;
COMMENT ON FUNCTION @schema@.compare_evaluations(bigint, bigint) IS
	'two detectors on the same images side by side, by class (NULL: all); p_value is McNemar''s, of the objects that only one of them found with the right class';
