-- Pipeline "datasets": versions without what audits found, what may be trained on, and what was.
--
-- A fix makes a version and never changes one: rows that go get `until`, rows that come get `since`.  A version that was exported, trained or
-- evaluated on is frozen: its rows stay as they are, and what is inserted afterwards opens the next version.

CREATE TABLE IF NOT EXISTS @schema@.sampling (
	dataset text NOT NULL,
	version int NOT NULL,
	image_id bigint NOT NULL REFERENCES @schema@.images ON DELETE CASCADE,
	repeats real NOT NULL CHECK (repeats >= 0),
	PRIMARY KEY (dataset, version, image_id),
	FOREIGN KEY (dataset, version) REFERENCES @schema@.versions ON DELETE CASCADE
);
COMMENT ON TABLE @schema@.sampling IS 'how often each image of a version is shown in an epoch; those without a row once: rebalance()';

-- The next version of a data set.
CREATE OR REPLACE FUNCTION @schema@.new_version(name text, action text, options jsonb DEFAULT '{}') RETURNS int LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	n int;
BEGIN
	UPDATE @schema@.datasets d SET version = d.version + 1 WHERE d.dataset = name RETURNING d.version INTO n;
	IF n IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('data set "%s" does not exist', name),
			HINT = CASE WHEN name LIKE '%:%' THEN 'Fixes are made to the newest version: name the data set alone.' END;
	END IF;
	INSERT INTO @schema@.versions (dataset, version, action, options) VALUES (name, n, new_version.action, new_version.options);
	INSERT INTO @schema@.sampling SELECT s.dataset, n, s.image_id, s.repeats FROM @schema@.sampling s WHERE s.dataset = name AND s.version = n - 1;
	RETURN n;
END $$;
COMMENT ON FUNCTION @schema@.new_version(text, text, jsonb) IS 'opens the next version of a data set, equal to the newest until rows are changed';

-- The version that an inserted row comes into: the newest, or the one after it where that is frozen.
CREATE OR REPLACE FUNCTION @schema@.open_version(name text) RETURNS int LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	n int;
	frozen boolean;
BEGIN
	SELECT v.version, v.frozen_at IS NOT NULL INTO n, frozen FROM @schema@.datasets d JOIN @schema@.versions v USING (dataset, version) WHERE d.dataset = name;
	RETURN CASE WHEN frozen THEN @schema@.new_version(name, 'insert') ELSE coalesce(n, 1) END;
END $$;
COMMENT ON FUNCTION @schema@.open_version(text) IS 'the newest version of a data set that may still change, made if there is none';

CREATE OR REPLACE FUNCTION @schema@.place_image() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NEW.since = 0 THEN
		NEW.since := @schema@.open_version(NEW.dataset);
	END IF;
	RETURN NEW;
END $$;
COMMENT ON FUNCTION @schema@.place_image() IS 'puts what is inserted into the newest version of its data set';
CREATE OR REPLACE TRIGGER place BEFORE INSERT ON @schema@.images FOR EACH ROW EXECUTE FUNCTION @schema@.place_image();
CREATE OR REPLACE TRIGGER place BEFORE INSERT ON @schema@.problems FOR EACH ROW EXECUTE FUNCTION @schema@.place_image();

CREATE OR REPLACE FUNCTION @schema@.place_annotation() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NEW.since = 0 THEN
		NEW.since := @schema@.open_version((SELECT dataset FROM @schema@.images WHERE image_id = NEW.image_id));
	END IF;
	RETURN NEW;
END $$;
COMMENT ON FUNCTION @schema@.place_annotation() IS 'puts what is inserted into the newest version of its data set';
CREATE OR REPLACE TRIGGER place BEFORE INSERT ON @schema@.annotations FOR EACH ROW EXECUTE FUNCTION @schema@.place_annotation();

-- Rows of frozen versions stay as they are: none leaves such a version, comes into it, or changes within it.
CREATE OR REPLACE FUNCTION @schema@.keep_frozen() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	name text;
	later record := OLD;
	same boolean;
	frozen int;
BEGIN
	IF TG_OP = 'UPDATE' THEN
		later := NEW;
	END IF;
	IF TG_TABLE_NAME = 'images' THEN
		name := OLD.dataset;
		same := later.content IS NOT DISTINCT FROM OLD.content;
		OLD.content := NULL;	-- too large to be compared as JSON
		later.content := NULL;
	ELSE
		SELECT dataset INTO name FROM @schema@.images WHERE image_id = OLD.image_id;
		same := true;
	END IF;
	same := same AND to_jsonb(later) - 'since' - 'until' = to_jsonb(OLD) - 'since' - 'until';
	SELECT max(v.version) INTO frozen FROM @schema@.versions v,
		LATERAL (SELECT v.version >= OLD.since AND (OLD.until IS NULL OR v.version < OLD.until) AS was_in,
			TG_OP = 'UPDATE' AND v.version >= later.since AND (later.until IS NULL OR v.version < later.until) AS is_in) r
		WHERE v.dataset = name AND v.frozen_at IS NOT NULL AND (r.was_in <> r.is_in OR r.was_in AND NOT same);
	IF frozen IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
			MESSAGE = format('version %s of data set "%s" is frozen', frozen, name),
			DETAIL = 'It was exported, trained or evaluated on.',
			HINT = 'Make a new version: @schema@.drop_images(), drop_boxes() and others, or INSERT.';
	END IF;
	RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
COMMENT ON FUNCTION @schema@.keep_frozen() IS 'refuses changes of rows that a frozen version has';
CREATE OR REPLACE TRIGGER keep_frozen BEFORE UPDATE OR DELETE ON @schema@.images FOR EACH ROW EXECUTE FUNCTION @schema@.keep_frozen();
CREATE OR REPLACE TRIGGER keep_frozen BEFORE UPDATE OR DELETE ON @schema@.annotations FOR EACH ROW EXECUTE FUNCTION @schema@.keep_frozen();

-- ---- what the fixes share ----

-- The last finished audit of the newest version.
CREATE OR REPLACE FUNCTION @schema@.last_audit(name text) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
	id bigint;
BEGIN
	SELECT max(r.run_id) INTO id FROM @schema@.runs r JOIN @schema@.resolve(name) v USING (dataset, version) WHERE r.activity = 'audit' AND r.ended_at IS NOT NULL;
	IF id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('the newest version of data set "%s" was not audited', name),
			HINT = format('SELECT @schema@.audit(%L)', name);
	END IF;
	RETURN id;
END $$;
COMMENT ON FUNCTION @schema@.last_audit(text) IS 'run of the last finished audit of a data set''s newest version; an ERROR if there is none';

-- A version without some images and annotations.
CREATE OR REPLACE FUNCTION @schema@.version_without(name text, action text, options jsonb, image_ids bigint[], annotation_ids bigint[]) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	n int := @schema@.new_version(name, action, options);
	images_gone bigint;
	annotations_gone bigint;
BEGIN
	UPDATE @schema@.images i SET until = n WHERE i.image_id = ANY (image_ids) AND i.dataset = name AND i.until IS NULL;
	GET DIAGNOSTICS images_gone = ROW_COUNT;
	UPDATE @schema@.annotations a SET until = n FROM @schema@.images i
		WHERE a.image_id = i.image_id AND i.dataset = name AND a.until IS NULL AND (a.annotation_id = ANY (annotation_ids) OR a.image_id = ANY (image_ids));
	GET DIAGNOSTICS annotations_gone = ROW_COUNT;
	UPDATE @schema@.problems p SET until = n WHERE p.image_id = ANY (image_ids) AND p.until IS NULL;
	DELETE FROM @schema@.sampling s WHERE s.dataset = name AND s.version = n AND s.image_id = ANY (image_ids);
	UPDATE @schema@.versions v SET changed = jsonb_build_object('images_removed', images_gone, 'annotations_removed', annotations_gone) WHERE v.dataset = name AND v.version = n;
	RETURN n;
END $$;
COMMENT ON FUNCTION @schema@.version_without(text, text, jsonb, bigint[], bigint[]) IS 'a version of a data set without those images and annotations';

-- ---- fixes: each returns the number of the version it made ----

CREATE OR REPLACE FUNCTION @schema@.remove_leaks(name text, keep text[] DEFAULT '{test,val,valid,validation,train}', within_splits boolean DEFAULT false) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	run bigint := @schema@.last_audit(name);
	gone bigint[];
BEGIN
	-- Of each pair the image goes whose split comes later in keep; of equal splits the younger one.  Orders are total, so one of each group stays.
	SELECT array_agg(DISTINCT CASE WHEN (array_position(keep, a.split), a.image_id) < (array_position(keep, b.split), b.image_id) THEN b.image_id ELSE a.image_id END) INTO gone
		FROM (SELECT i.image_id, i.split, f.other_image_id FROM @schema@.findings f JOIN @schema@.kinds k USING (kind) JOIN @schema@.images i ON i.image_id = f.image_id
				WHERE f.run_id = run AND k."check" = 'leaks' AND f.other_image_id IS NOT NULL) a
			JOIN @schema@.images b ON b.image_id = a.other_image_id
		WHERE within_splits OR a.split <> b.split;
	RETURN @schema@.version_without(name, 'remove_leaks', jsonb_build_object('audit', run, 'keep', keep, 'within_splits', within_splits), gone, NULL);
END $$;
COMMENT ON FUNCTION @schema@.remove_leaks(text, text[], boolean) IS
	'a version in which no image stands in two splits: of each pair that the last audit found, the image stays whose split is named first in keep; within_splits: duplicates within a split go, too';

CREATE OR REPLACE FUNCTION @schema@.drop_images(name text, kinds text[] DEFAULT '{corrupt_image,truncated_image,missing_image}') RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	run bigint := @schema@.last_audit(name);
BEGIN
	PERFORM @schema@.check_kinds(kinds);
	RETURN @schema@.version_without(name, 'drop_images', jsonb_build_object('audit', run, 'kinds', kinds),
		(SELECT array_agg(f.image_id) FROM @schema@.findings f WHERE f.run_id = run AND f.kind = ANY (kinds) AND f.annotation_id IS NULL), NULL);
END $$;
COMMENT ON FUNCTION @schema@.drop_images(text, text[]) IS 'a version without the images of which the last audit found something of these kinds';

CREATE OR REPLACE FUNCTION @schema@.drop_boxes(name text, kinds text[] DEFAULT '{degenerate_box,duplicate_box,unknown_class}') RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	run bigint := @schema@.last_audit(name);
BEGIN
	PERFORM @schema@.check_kinds(kinds);
	RETURN @schema@.version_without(name, 'drop_boxes', jsonb_build_object('audit', run, 'kinds', kinds), NULL,
		(SELECT array_agg(f.annotation_id) FROM @schema@.findings f WHERE f.run_id = run AND f.kind = ANY (kinds)));
END $$;
COMMENT ON FUNCTION @schema@.drop_boxes(text, text[]) IS 'a version without the annotations of which the last audit found something of these kinds';

CREATE OR REPLACE FUNCTION @schema@.drop_findings(name text, finding_ids bigint[]) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	RETURN @schema@.version_without(name, 'drop_findings', jsonb_build_object('findings', finding_ids),
		(SELECT array_agg(f.image_id) FROM @schema@.findings f WHERE f.finding_id = ANY (finding_ids) AND f.annotation_id IS NULL),
		(SELECT array_agg(f.annotation_id) FROM @schema@.findings f WHERE f.finding_id = ANY (finding_ids) AND f.annotation_id IS NOT NULL));
END $$;
COMMENT ON FUNCTION @schema@.drop_findings(text, bigint[]) IS 'a version without the annotations, or where a finding names none the images, of these findings';

CREATE OR REPLACE FUNCTION @schema@.check_kinds(kinds text[]) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
	unknown text;
BEGIN
	SELECT string_agg(k, ', ') INTO unknown FROM unnest(kinds) k WHERE NOT EXISTS (SELECT FROM @schema@.kinds x WHERE x.kind = k);
	IF unknown IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown kind of findings: %s', unknown), HINT = 'See @schema@.kinds.';
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.check_kinds(text[]) IS 'an ERROR for a kind that is not in kinds';

CREATE OR REPLACE FUNCTION @schema@.clamp_boxes(name text) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	n int;
	rows_changed bigint;
	gone bigint;
	unmeasured bigint;
BEGIN
	n := @schema@.new_version(name, 'clamp_boxes');
	SELECT count(*) INTO unmeasured FROM @schema@.images_of(name) i LEFT JOIN @schema@.facts f USING (image_id) WHERE f.width IS NULL AND f.sqlstate IS NULL AND i.content IS NOT NULL;
	IF unmeasured > 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('%s images of data set "%s" were not measured', unmeasured, name),
			HINT = format('SELECT @schema@.audit(%L)', name);
	END IF;
	WITH outside AS (
		UPDATE @schema@.annotations a SET until = n FROM @schema@.images i JOIN @schema@.facts f USING (image_id)
		WHERE a.image_id = i.image_id AND i.dataset = name AND i.until IS NULL AND a.until IS NULL
			AND (a.x1 < 0 OR a.y1 < 0 OR a.x2 > f.width OR a.y2 > f.height)
		RETURNING a.*, f.width, f.height),
	clamped AS (
		INSERT INTO @schema@.annotations (image_id, class_id, x1, y1, x2, y2, crowd, source, since)
		SELECT image_id, class_id, greatest(x1, 0), greatest(y1, 0), least(x2, width), least(y2, height), crowd, source, n FROM outside
		WHERE least(x2, width) > greatest(x1, 0) AND least(y2, height) > greatest(y1, 0)
		RETURNING 1)
	SELECT (SELECT count(*) FROM clamped), (SELECT count(*) FROM outside) - (SELECT count(*) FROM clamped) INTO rows_changed, gone;
	UPDATE @schema@.versions v SET changed = jsonb_build_object('annotations_clamped', rows_changed, 'annotations_removed', gone) WHERE v.dataset = name AND v.version = n;
	RETURN n;
END $$;
COMMENT ON FUNCTION @schema@.clamp_boxes(text) IS 'a version in which boxes end where their image does; those wholly outside of it are gone';

CREATE OR REPLACE FUNCTION @schema@.relabel(name text, annotation_ids bigint[], class_ids int[]) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	n int;
	rows_changed bigint;
BEGIN
	IF cardinality(annotation_ids) <> cardinality(class_ids) THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'there must be a class for each annotation';
	END IF;
	n := @schema@.new_version(name, 'relabel');
	WITH old AS (
		UPDATE @schema@.annotations a SET until = n FROM @schema@.images i, unnest(annotation_ids, class_ids) AS w (id, class_id)
		WHERE a.annotation_id = w.id AND a.image_id = i.image_id AND i.dataset = name AND a.until IS NULL AND a.class_id <> w.class_id
		RETURNING a.*, w.class_id AS wanted),
	new AS (
		INSERT INTO @schema@.annotations (image_id, class_id, x1, y1, x2, y2, crowd, area, source, since)
		SELECT image_id, wanted, x1, y1, x2, y2, crowd, area, source, n FROM old RETURNING 1)
	SELECT count(*) INTO rows_changed FROM new;
	UPDATE @schema@.versions v SET changed = jsonb_build_object('annotations_relabelled', rows_changed) WHERE v.dataset = name AND v.version = n;
	RETURN n;
END $$;
COMMENT ON FUNCTION @schema@.relabel(text, bigint[], int[]) IS 'a version in which those annotations have other classes';

CREATE OR REPLACE FUNCTION @schema@.rebalance(name text, method text DEFAULT 'oversample', split text DEFAULT 'train', seed int DEFAULT 0) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	n int;
	rarest bigint;
	gone bigint[];
BEGIN
	IF method = 'oversample' THEN
		n := @schema@.new_version(name, 'rebalance', jsonb_build_object('method', method, 'split', rebalance.split));
		DELETE FROM @schema@.sampling s WHERE s.dataset = name AND s.version = n;
		INSERT INTO @schema@.sampling SELECT name, n, p.image_id, p.repeats FROM @schema@.oversampling_plan(name, NULL, rebalance.split, seed) p WHERE p.repeats > 1;
		UPDATE @schema@.versions v SET changed = jsonb_build_object('images_repeated', (SELECT count(*) FROM @schema@.sampling s WHERE s.dataset = name AND s.version = n))
			WHERE v.dataset = name AND v.version = n;
		RETURN n;
	ELSIF method = 'undersample' THEN
		-- Images of one class only, of the classes that have more than the rarest; which ones is drawn by the seed.
		WITH labelled AS (SELECT a.image_id, min(a.class_id) AS class_id FROM @schema@.annotations_of(name) a JOIN @schema@.images i USING (image_id)
				WHERE i.split = rebalance.split GROUP BY a.image_id HAVING count(DISTINCT a.class_id) = 1),
			numbered AS (SELECT image_id, row_number() OVER (PARTITION BY class_id ORDER BY md5(seed || ':' || image_id)) AS k, class_id FROM labelled)
		SELECT array_agg(image_id) INTO gone FROM numbered WHERE k > (SELECT min(c) FROM (SELECT count(*) AS c FROM labelled GROUP BY class_id) x);
		RETURN @schema@.version_without(name, 'rebalance', jsonb_build_object('method', method, 'split', rebalance.split, 'seed', seed), gone, NULL);
	END IF;
	RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown method "%s"', method), HINT = 'Methods are oversample and undersample.';
END $$;
COMMENT ON FUNCTION @schema@.rebalance(text, text, text, int) IS
	'a version with rows of sampling that show images of rare classes more often (oversample: oversampling_plan()), or without images of the frequent ones (undersample)';

-- ---- what may be trained on ----

-- What the last audit found of a version and of those it was made from, as far as the rows are still there, and nobody waived.
CREATE OR REPLACE FUNCTION @schema@.blocking_findings(reference text) RETURNS SETOF @schema@.findings LANGUAGE sql STABLE AS $$
	SELECT f.* FROM @schema@.resolve(reference) v,
		LATERAL (SELECT max(r.run_id) AS run_id FROM @schema@.runs r WHERE r.dataset = v.dataset AND r.version <= v.version AND r.activity = 'audit' AND r.ended_at IS NOT NULL) a
		JOIN @schema@.findings f ON f.run_id = a.run_id AND f.severity = 'blocking'
	WHERE NOT EXISTS (SELECT FROM @schema@.waivers w WHERE w.dataset = v.dataset AND w.kind = f.kind)
		AND (SELECT count(*) FROM @schema@.images i WHERE i.image_id IN (f.image_id, f.other_image_id) AND i.since <= v.version AND (i.until IS NULL OR i.until > v.version))
			= num_nonnulls(f.image_id, nullif(f.other_image_id, f.image_id))
		AND (f.annotation_id IS NULL OR EXISTS (SELECT FROM @schema@.annotations n WHERE n.annotation_id = f.annotation_id AND n.since <= v.version AND (n.until IS NULL OR n.until > v.version)))
$$;
COMMENT ON FUNCTION @schema@.blocking_findings(text) IS 'why a version may not be trained on: of the last audit of it or of an earlier version, what is still there and not waived';

CREATE OR REPLACE FUNCTION @schema@.refuse_blocked(reference text) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
	bad record;
BEGIN
	SELECT min(run_id) AS run_id, string_agg(format('%s %s', n, kind), ', ' ORDER BY n DESC, kind) AS what INTO bad
		FROM (SELECT f.run_id, f.kind, count(*) AS n FROM @schema@.blocking_findings(reference) f GROUP BY 1, 2) k;
	IF bad.run_id IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('data set "%s" has blocking findings', reference),
			DETAIL = format('Audit %s found %s.', bad.run_id, bad.what),
			HINT = 'Make a version without them (see @schema@.kinds, column fix) and audit it, or waive them with a reason: @schema@.waive(dataset, kind, reason).';
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.refuse_blocked(text) IS 'an ERROR if a version has blocking findings that are not waived';

CREATE OR REPLACE FUNCTION @schema@.waive(name text, kind text, reason text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM @schema@.check_kinds(ARRAY[waive.kind]);
	IF btrim(coalesce(reason, '')) = '' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a reason is needed';
	END IF;
	INSERT INTO @schema@.waivers (dataset, kind, reason) VALUES (name, waive.kind, waive.reason)
		ON CONFLICT ON CONSTRAINT waivers_pkey DO UPDATE SET reason = excluded.reason, waived_at = now(), waived_by = current_user;
END $$;
COMMENT ON FUNCTION @schema@.waive(text, text, text) IS 'lets a data set be trained on despite blocking findings of a kind; DELETE the row of waivers to take it back';

CREATE OR REPLACE FUNCTION @schema@.trainable(reference text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
	PERFORM @schema@.refuse_blocked(reference);
	RETURN true;
END $$;
COMMENT ON FUNCTION @schema@.trainable(text) IS 'true, or an ERROR that says why not';

CREATE OR REPLACE FUNCTION @schema@.training_images(reference text, splits text[] DEFAULT NULL)
	RETURNS TABLE (image_id bigint, split text, path text, content bytea, class_id int, class_name text, embedding real[], weight real) LANGUAGE sql STABLE AS $$
	SELECT i.image_id, i.split, i.path, i.content, l.class_id, c.class_name, f.embedding, coalesce(s.repeats, 1)::real
	FROM @schema@.resolve(reference) r
		JOIN @schema@.images i ON i.dataset = r.dataset AND i.since <= r.version AND (i.until IS NULL OR i.until > r.version)
		LEFT JOIN @schema@.annotations l ON l.image_id = i.image_id AND l.x1 IS NULL AND l.since <= r.version AND (l.until IS NULL OR l.until > r.version)
		LEFT JOIN @schema@.classes c ON c.dataset = r.dataset AND c.class_id = l.class_id
		LEFT JOIN @schema@.facts f ON f.image_id = i.image_id
		LEFT JOIN @schema@.sampling s ON s.dataset = r.dataset AND s.version = r.version AND s.image_id = i.image_id
	WHERE @schema@.trainable(reference) AND i.content IS NOT NULL AND f.sqlstate IS NULL AND (splits IS NULL OR i.split = ANY (splits))
$$;
COMMENT ON FUNCTION @schema@.training_images(text, text[]) IS
	'images of a version with the class of the whole image, for queries of train_model(): an ERROR where the data set has blocking findings; weight is how often sampling shows it';

CREATE OR REPLACE FUNCTION @schema@.training_defaults() RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
	SELECT '{"epochs": 50, "imgsz": 640, "batch": 16, "optimizer": "AdamW", "lr0": 0.001, "weight_decay": 0.0005, "seed": 0}'::jsonb
$$;
COMMENT ON FUNCTION @schema@.training_defaults() IS 'hyper-parameters of export_for_training() where nothing is said: names are Ultralytics''';

CREATE OR REPLACE FUNCTION @schema@.begin_training(reference text, hyperparameters jsonb DEFAULT '{}') RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	run bigint;
BEGIN
	PERFORM @schema@.refuse_blocked(reference);
	run := @schema@.begin_run(reference, 'training', NULL, @schema@.training_defaults() || hyperparameters);
	UPDATE @schema@.versions v SET frozen_at = coalesce(v.frozen_at, now()) FROM @schema@.runs r WHERE r.run_id = run AND v.dataset = r.dataset AND v.version = r.version;
	RETURN run;
END $$;
COMMENT ON FUNCTION @schema@.begin_training(text, jsonb) IS 'notes that a version goes out for training, and freezes it; returns the run that register_detector() closes';

-- Values as YAML writes them: JSON is YAML.
CREATE OR REPLACE FUNCTION @schema@.training_files(run bigint) RETURNS TABLE (path text, content bytea) LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN QUERY
	SELECT 'train.yaml', convert_to(format(E'# Ultralytics: yolo detect train cfg=train.yaml data=data.yaml model=yolov8n.pt\n%s', string_agg(h.key || ': ' || h.value, E'\n' ORDER BY h.key) || E'\n'), 'UTF8')
		FROM @schema@.runs r, jsonb_each(r.options) h WHERE r.run_id = run
	UNION ALL
	SELECT 'lineage.json', convert_to(jsonb_pretty(jsonb_build_object('run', r.run_id, 'dataset', r.dataset, 'version', r.version, 'state', encode(r.state, 'hex'),
			'exported_at', r.started_at, 'hyperparameters', r.options, 'waivers', (SELECT jsonb_agg(jsonb_build_object('kind', w.kind, 'reason', w.reason)) FROM @schema@.waivers w WHERE w.dataset = r.dataset))) || E'\n', 'UTF8')
		FROM @schema@.runs r WHERE r.run_id = run
	UNION ALL
	SELECT 'sampling.csv', convert_to(E'path,repeats\n' || string_agg(@schema@.csv_line(i.split || '/' || i.path, s.repeats::text), E'\n' ORDER BY i.image_id) || E'\n', 'UTF8')
		FROM @schema@.runs r JOIN @schema@.sampling s USING (dataset, version) JOIN @schema@.images i USING (image_id) WHERE r.run_id = run HAVING count(*) > 0
	UNION ALL
	SELECT e.path, e.content FROM @schema@.runs r, @schema@.export_files(r.dataset || ':' || r.version, 'yolo') e WHERE r.run_id = run;
END $$;
COMMENT ON FUNCTION @schema@.training_files(bigint) IS 'the folder of a training run: images and labels as YOLO has them, data.yaml, train.yaml with the hyper-parameters, lineage.json';

CREATE OR REPLACE FUNCTION @schema@.export_for_training(reference text, hyperparameters jsonb DEFAULT '{}') RETURNS TABLE (path text, content bytea) LANGUAGE plpgsql AS $$
DECLARE
	run bigint := @schema@.begin_training(reference, hyperparameters);
BEGIN
	RETURN QUERY SELECT f.path, f.content FROM @schema@.training_files(run) f;
END $$;
COMMENT ON FUNCTION @schema@.export_for_training(text, jsonb) IS
	'the folder from which a detector is trained outside, as rows: begin_training() and training_files(). The ONNX file that comes of it: register_detector()';

CREATE OR REPLACE FUNCTION @schema@.register_detector(run bigint, name text, content bytea, spec jsonb DEFAULT '{}') RETURNS int LANGUAGE plpgsql AS $$
DECLARE
	r record;
	v int;
BEGIN
	SELECT * INTO r FROM @schema@.runs WHERE run_id = run AND activity = 'training';
	IF r.run_id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('run %s is no training', run), HINT = 'begin_training() and export_for_training() begin one: see @schema@.runs.';
	ELSIF r.model IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('training %s has its model already: %s', run, r.model);
	END IF;
	v := millrace.import_model(name, content, jsonb_build_object('labels', (SELECT jsonb_agg(c.class_name ORDER BY c.class_id) FROM @schema@.classes c WHERE c.dataset = r.dataset),
		'description', format('trained outside on %s:%s, run %s of @schema@', r.dataset, r.version, run)) || spec);
	UPDATE @schema@.runs u SET model = name || ':' || v, ended_at = clock_timestamp() WHERE u.run_id = run;
	RETURN v;
END $$;
COMMENT ON FUNCTION @schema@.register_detector(bigint, text, bytea, jsonb) IS 'imports the ONNX file of a detector that was trained outside, as the model of that training run; returns its version';

CREATE OR REPLACE VIEW @schema@.lineage AS
	SELECT r.model, r.run_id, r.dataset, r.version, v.action AS version_made_by, encode(r.state, 'hex') AS state, r.options AS hyperparameters, r.started_at AS exported_at, r.ended_at AS registered_at
	FROM @schema@.runs r JOIN @schema@.versions v USING (dataset, version) WHERE r.activity = 'training';
COMMENT ON VIEW @schema@.lineage IS 'which version of which data set, in which state, each detector was trained on';
