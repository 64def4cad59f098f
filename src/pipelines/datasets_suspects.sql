-- Pipeline "datasets": labels in doubt.
--
-- Boxes: a detector's confident detections without an object, and objects without a detection.  Classes of whole images: confident
-- learning (Northcutt, Jiang, Chuang 2021) with classifiers that are trained on the other folds' descriptors.  Both keep what they
-- computed of each image; a later audit computes it for new images only.

CREATE TABLE IF NOT EXISTS @schema@.noise (
	image_id bigint PRIMARY KEY REFERENCES @schema@.images ON DELETE CASCADE,
	fold int NOT NULL,
	trained boolean NOT NULL,
	class_id int NOT NULL,
	p_given real NOT NULL,
	classes int[] NOT NULL,
	probabilities real[] NOT NULL
);
-- what they find likeliest: not in pipelines that were made before
ALTER TABLE @schema@.noise ADD COLUMN IF NOT EXISTS found int;
UPDATE @schema@.noise SET found = classes[millrace.largest_of(probabilities)] WHERE found IS NULL;
COMMENT ON TABLE @schema@.noise IS 'what a classifier that has not seen an image says of it';
COMMENT ON COLUMN @schema@.noise.trained IS 'whether the other folds'' classifiers have learnt from it; false for images that came later';
COMMENT ON COLUMN @schema@.noise.class_id IS 'its label then';
COMMENT ON COLUMN @schema@.noise.found IS 'the likeliest class';

INSERT INTO @schema@.checks ("check", function, position, description) VALUES
	('suspects', 'check_suspects', 60, 'labels of boxes against a detector: settings.detector, nothing without one'),
	('noise', 'check_noise', 70, 'labels of whole images against classifiers trained on the others')
	ON CONFLICT DO NOTHING;
INSERT INTO @schema@.kinds (kind, "check", severity, thresholds, fix, description) VALUES
	('missing_label', 'suspects', 'warning', '{"confidence": 0.6, "overlap": 0.3}', NULL, 'a confident detection where nothing is annotated'),
	('wrong_class', 'suspects', 'warning', '{"confidence": 0.6, "overlap": 0.6}', 'relabel', 'an object that the detector is confident to be of another class'),
	('spurious_label', 'suspects', 'info', '{"confidence": 0.05, "overlap": 0.3}', 'drop_boxes', 'an object of which the detector sees nothing'),
	('loose_box', 'suspects', 'info', '{"confidence": 0.6, "overlap": 0.5}', NULL, 'a box that overlaps the detection of its object little'),
	('label_noise', 'noise', 'warning', '{"folds": 5, "retrain": 0.1, "images": 20, "accuracy": 0.5}', 'relabel', 'an image whose class the classifiers of the other images find wrong; not where they are right of a smaller share of the images than accuracy')
	ON CONFLICT DO NOTHING;

CREATE OR REPLACE FUNCTION @schema@.check_suspects(run bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	reference text := (SELECT r.dataset || ':' || r.version FROM @schema@.runs r WHERE r.run_id = run);
	detector text;
	low real := @schema@.threshold(run, 'spurious_label', 'confidence');
	truth record;
	guess record;
BEGIN
	-- The setting has a name by default, whether there is such a model or not.
	IF (SELECT s.detector FROM @schema@.settings s) IS NULL
		AND NOT EXISTS (SELECT FROM millrace.models m WHERE m.name = split_part(current_setting('millrace.detector', true), ':', 1)) THEN
		RETURN;
	END IF;
	detector := @schema@.detector();
	PERFORM @schema@.detect_images(reference, detector, low, 0.7);
	PERFORM @schema@.read_detections(reference, detector, low, 0.7, only_decoded => true);
	CREATE TEMPORARY TABLE IF NOT EXISTS millrace_pairs (truth int, detection int, overlap real) ON COMMIT DROP;
	TRUNCATE pg_temp.millrace_pairs;
	-- A detection of the object's own class goes before others: so classes are matched first, and what is left then without.
	FOR pass IN 1 .. 2 LOOP
		SELECT array_agg(image_id ORDER BY n) AS images, array_agg(CASE pass WHEN 1 THEN class_id ELSE 0 END ORDER BY n) AS classes, array_agg(crowd ORDER BY n) AS crowds, array_agg(n ORDER BY n) AS rows,
			(SELECT array_agg(v ORDER BY t.n, k) FROM pg_temp.millrace_truths t, unnest(ARRAY[t.x1, t.y1, t.x2, t.y2]) WITH ORDINALITY AS u (v, k)
				WHERE NOT EXISTS (SELECT FROM pg_temp.millrace_pairs p WHERE p.truth = t.n)) AS boxes
			INTO truth FROM pg_temp.millrace_truths t WHERE NOT EXISTS (SELECT FROM pg_temp.millrace_pairs p WHERE p.truth = t.n);
		SELECT array_agg(image_id ORDER BY n) AS images, array_agg(CASE pass WHEN 1 THEN class_id ELSE 0 END ORDER BY n) AS classes, array_agg(confidence ORDER BY n) AS scores, array_agg(n ORDER BY n) AS rows,
			(SELECT array_agg(v ORDER BY g.n, k) FROM pg_temp.millrace_guesses g, unnest(ARRAY[g.x1, g.y1, g.x2, g.y2]) WITH ORDINALITY AS u (v, k)
				WHERE NOT EXISTS (SELECT FROM pg_temp.millrace_pairs p WHERE p.detection = g.n)) AS boxes
			INTO guess FROM pg_temp.millrace_guesses g WHERE NOT EXISTS (SELECT FROM pg_temp.millrace_pairs p WHERE p.detection = g.n);
		INSERT INTO pg_temp.millrace_pairs
			SELECT truth.rows[m.truth], guess.rows[m.detection], m.overlap
			FROM millrace.match_detections(
				-- classes apart: an image of its own for each
				(SELECT array_agg(i * 100000 + c ORDER BY k) FROM unnest(truth.images, truth.classes) WITH ORDINALITY AS u (i, c, k)), truth.classes, truth.boxes, NULL, truth.crowds,
				(SELECT array_agg(i * 100000 + c ORDER BY k) FROM unnest(guess.images, guess.classes) WITH ORDINALITY AS u (i, c, k)), guess.classes, guess.scores, guess.boxes,
				least(@schema@.threshold(run, 'spurious_label', 'overlap'), @schema@.threshold(run, 'missing_label', 'overlap'))::real) m
			WHERE m.truth IS NOT NULL AND m.detection IS NOT NULL OR m.in_crowd;
	END LOOP;

	INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, annotation_id, class_id, score, evidence, suggestion)
		SELECT run, x.kind, @schema@.severity(run, x.kind), i.split, x.image_id, x.annotation_id, x.class_id, x.score, x.evidence || jsonb_build_object('model', detector), x.suggestion
		FROM (
			SELECT 'missing_label' AS kind, g.image_id, NULL::bigint AS annotation_id, g.class_id, g.confidence AS score,
				jsonb_build_object('box', jsonb_build_array(g.x1, g.y1, g.x2, g.y2), 'confidence', g.confidence, 'class', g.class_id) AS evidence, 'annotate the object, or note that it is none' AS suggestion
			FROM pg_temp.millrace_guesses g
			WHERE g.confidence >= @schema@.threshold(run, 'missing_label', 'confidence') AND NOT EXISTS (SELECT FROM pg_temp.millrace_pairs p WHERE p.detection = g.n)
				-- not a second box around an object that has one
				AND NOT EXISTS (SELECT FROM pg_temp.millrace_truths t WHERE t.image_id = g.image_id
					AND millrace.box_iou(ARRAY[t.x1, t.y1, t.x2, t.y2], ARRAY[g.x1, g.y1, g.x2, g.y2]) > @schema@.threshold(run, 'missing_label', 'overlap'))
			UNION ALL
			SELECT 'wrong_class', t.image_id, t.annotation_id, t.class_id, g.confidence, jsonb_build_object('given', t.class_id, 'found', g.class_id, 'confidence', g.confidence, 'overlap', p.overlap),
				format('label it %s, if that is right', g.class_id)
			FROM pg_temp.millrace_pairs p JOIN pg_temp.millrace_truths t ON t.n = p.truth JOIN pg_temp.millrace_guesses g ON g.n = p.detection
			WHERE t.class_id <> g.class_id AND g.confidence >= @schema@.threshold(run, 'wrong_class', 'confidence') AND p.overlap >= @schema@.threshold(run, 'wrong_class', 'overlap')
			UNION ALL
			SELECT 'spurious_label', t.image_id, t.annotation_id, t.class_id, 0, '{}', 'look whether there is an object'
			FROM pg_temp.millrace_truths t WHERE NOT t.crowd AND NOT EXISTS (SELECT FROM pg_temp.millrace_pairs p WHERE p.truth = t.n)
			UNION ALL
			SELECT 'loose_box', t.image_id, t.annotation_id, t.class_id, p.overlap, jsonb_build_object('box', jsonb_build_array(g.x1, g.y1, g.x2, g.y2), 'confidence', g.confidence, 'overlap', p.overlap),
				'look whether the box fits its object'
			FROM pg_temp.millrace_pairs p JOIN pg_temp.millrace_truths t ON t.n = p.truth JOIN pg_temp.millrace_guesses g ON g.n = p.detection
			WHERE t.class_id = g.class_id AND g.confidence >= @schema@.threshold(run, 'loose_box', 'confidence') AND p.overlap < @schema@.threshold(run, 'loose_box', 'overlap')
		) x JOIN @schema@.images i USING (image_id)
		WHERE @schema@.severity(run, x.kind) IS NOT NULL;
END $$;
COMMENT ON FUNCTION @schema@.check_suspects(bigint) IS 'findings missing_label, wrong_class, spurious_label and loose_box of an audit';

-- Probabilities of images by the classifier of their fold, which has not seen them.
CREATE OR REPLACE FUNCTION @schema@.predict_noise(name text, trained boolean, folds int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR k IN 0 .. folds - 1 LOOP
		INSERT INTO @schema@.noise (image_id, fold, trained, class_id, p_given, classes, probabilities, found)
			SELECT n.image_id, k, predict_noise.trained, n.class_id, coalesce(max(p.probability) FILTER (WHERE p.label::int = n.class_id), 0),
				array_agg(p.label::int ORDER BY p.label::int), array_agg(p.probability ORDER BY p.label::int), (array_agg(p.label::int ORDER BY p.probability DESC, p.label::int))[1]
			FROM pg_temp.millrace_noise n, LATERAL @extschema@.class_probabilities(n.embedding, @schema@.noise_model(name, k)) p
			WHERE n.fold = k GROUP BY n.image_id, n.class_id
			ON CONFLICT (image_id) DO UPDATE SET fold = excluded.fold, trained = excluded.trained, class_id = excluded.class_id, p_given = excluded.p_given,
				classes = excluded.classes, probabilities = excluded.probabilities, found = excluded.found;
	END LOOP;
END $$;
COMMENT ON FUNCTION @schema@.predict_noise(text, boolean, int) IS 'rows of noise for the images in the temporary table millrace_noise';

CREATE OR REPLACE FUNCTION @schema@.noise_model(name text, fold int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
	SELECT format('%s.noise_%s_%s', @schema_literal@, substr(md5(name), 1, 12), fold)
$$;
COMMENT ON FUNCTION @schema@.noise_model(text, int) IS 'name of the classifier that has not seen a fold of a data set';

CREATE OR REPLACE FUNCTION @schema@.check_noise(run bigint) RETURNS void LANGUAGE plpgsql SET work_mem = '64MB' AS $$
DECLARE
	set_name text;
	number int;
	how text := @schema@.severity(run, 'label_noise');
	folds int := @schema@.threshold(run, 'label_noise', 'folds');
	enough int[];
	unknown bigint[];
	fresh bigint;
	known bigint;
	accuracy double precision;
	old int;
BEGIN
	SELECT r.dataset, r.version INTO set_name, number FROM @schema@.runs r WHERE r.run_id = run;
	IF how IS NULL OR NOT has_function_privilege('millrace.train_model(text, text, text, text, jsonb)', 'EXECUTE') THEN
		RETURN;
	END IF;
	PERFORM @schema@.need_items(run);
	CREATE TEMPORARY TABLE IF NOT EXISTS millrace_noise (image_id bigint, fold int, class_id int, embedding real[]) ON COMMIT DROP;
	TRUNCATE pg_temp.millrace_noise;
	-- Images with one label of the whole, of classes of which each fold can have one at least.
	enough := ARRAY(SELECT t.class_id FROM pg_temp.millrace_items t WHERE t.whole = 1 AND t.embedded_by IS NOT NULL GROUP BY 1
		HAVING count(*) >= @schema@.threshold(run, 'label_noise', 'images'));
	IF cardinality(enough) < 2 THEN
		RETURN;
	END IF;
	SELECT count(*) FILTER (WHERE s.trained IS NOT true), count(*) FILTER (WHERE s.trained), array_agg(t.image_id) FILTER (WHERE s.image_id IS NULL) INTO fresh, known, unknown
		FROM pg_temp.millrace_items t LEFT JOIN @schema@.noise s ON s.image_id = t.image_id AND s.class_id = t.class_id
		WHERE t.whole = 1 AND t.embedded_by IS NOT NULL AND t.class_id = ANY (enough);
	IF fresh > @schema@.threshold(run, 'label_noise', 'retrain') * known THEN
		unknown := ARRAY(SELECT t.image_id FROM pg_temp.millrace_items t WHERE t.whole = 1 AND t.embedded_by IS NOT NULL AND t.class_id = ANY (enough));
		known := 0;
	END IF;
	INSERT INTO pg_temp.millrace_noise
		SELECT t.image_id, (('x' || substr(md5(t.image_id::text), 1, 7))::bit(28)::int) % folds, t.class_id, f.embedding
		FROM pg_temp.millrace_items t JOIN @schema@.facts f USING (image_id) WHERE t.image_id = ANY (unknown) AND f.image_id = ANY (unknown);
	IF known = 0 THEN
		FOR k IN 0 .. folds - 1 LOOP
			PERFORM millrace.train_model(@schema@.noise_model(set_name, k), 'logistic_regression',
				format('SELECT embedding, class_id::text AS class FROM pg_temp.millrace_noise WHERE fold <> %s', k), 'class', '{"max_iter": 200}');
			FOR old IN SELECT m.version FROM millrace.models m WHERE m.name = @schema@.noise_model(set_name, k) AND m.retired_at IS NULL ORDER BY m.version DESC OFFSET 1 LOOP
				PERFORM millrace.drop_model(@schema@.noise_model(set_name, k), old);
			END LOOP;
		END LOOP;
	END IF;
	PERFORM @schema@.predict_noise(set_name, known = 0, folds);

	-- Classifiers that are mostly wrong, as those of thumbnails can be, know nothing of labels.
	SELECT avg((s.found = s.class_id)::int) INTO accuracy FROM pg_temp.millrace_items t JOIN @schema@.noise s USING (image_id, class_id)
		WHERE t.whole = 1 AND t.class_id = ANY (enough);
	PERFORM @schema@.note_figures(run, 'noise', jsonb_build_object('accuracy', round(accuracy::numeric, 4)));
	IF accuracy < @schema@.threshold(run, 'label_noise', 'accuracy') THEN
		RETURN;
	END IF;
	-- Confident learning: a class's threshold is how sure the classifiers are, on average, of images that are labelled so.
	INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, annotation_id, class_id, score, evidence, suggestion)
		WITH said AS MATERIALIZED (
			SELECT t.image_id, t.annotation_id, t.split, t.class_id, s.p_given, s.classes, s.probabilities
			FROM pg_temp.millrace_items t JOIN @schema@.noise s USING (image_id, class_id) WHERE t.whole = 1 AND t.class_id = ANY (enough)),
		sure AS MATERIALIZED (SELECT class_id, avg(p_given) AS p FROM said GROUP BY class_id),
		limits AS MATERIALIZED (
			SELECT d.classes, ARRAY(SELECT coalesce(sure.p, 'Infinity') FROM unnest(d.classes) WITH ORDINALITY AS u (c, n) LEFT JOIN sure ON sure.class_id = u.c ORDER BY u.n) AS least
			FROM (SELECT DISTINCT classes FROM said) d)
		SELECT run, 'label_noise', how, x.split, x.image_id, x.annotation_id, x.class_id, 1 - x.p_given,
			jsonb_build_object('given', x.class_id, 'p_given', x.p_given, 'found', x.classes[x.place], 'p_found', x.probabilities[x.place]),
			format('label it %s, if that is right', coalesce(c.class_name, x.classes[x.place]::text))
		FROM (SELECT said.*, millrace.largest_of(said.probabilities, limits.least) AS place FROM said JOIN limits USING (classes) OFFSET 0) x
			LEFT JOIN @schema@.classes c ON c.dataset = set_name AND c.class_id = x.classes[x.place]
		WHERE x.classes[x.place] <> x.class_id;
END $$;
COMMENT ON FUNCTION @schema@.check_noise(bigint) IS 'findings label_noise of an audit';
