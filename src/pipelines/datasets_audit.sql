-- Pipeline "datasets": audits, what they measure, and what is made of them.
--
-- audit() measures the images that have no facts (measure()), then runs the checks in their order; they insert findings of the run.  All that
-- costs per image is in facts, so what was seen once is not decoded again; the checks of images, annotations and classes
-- (datasets_checks.sql) are queries over facts.  An audit is one transaction: it is there as a whole or not at all.  CALL measure_all()
-- before it keeps what was measured, whatever happens to the audit.
-- Locks: the data set's row, FOR NO KEY UPDATE, from the beginning: two audits of one data set take turns, and inserts go on.

CREATE OR REPLACE FUNCTION @schema@.run_images(run bigint) RETURNS SETOF @schema@.images LANGUAGE sql STABLE AS $$
	SELECT i.* FROM @schema@.runs r JOIN @schema@.images i ON i.dataset = r.dataset AND i.since <= r.version AND (i.until IS NULL OR i.until > r.version)
	WHERE r.run_id = run_images.run
$$;
COMMENT ON FUNCTION @schema@.run_images(bigint) IS 'the images that a run is about';

CREATE OR REPLACE FUNCTION @schema@.run_annotations(run bigint) RETURNS SETOF @schema@.annotations LANGUAGE sql STABLE AS $$
	SELECT a.* FROM @schema@.runs r JOIN @schema@.images i ON i.dataset = r.dataset AND i.since <= r.version AND (i.until IS NULL OR i.until > r.version)
		JOIN @schema@.annotations a ON a.image_id = i.image_id AND a.since <= r.version AND (a.until IS NULL OR a.until > r.version)
	WHERE r.run_id = run_annotations.run
$$;
COMMENT ON FUNCTION @schema@.run_annotations(bigint) IS 'the annotations that a run is about';

-- The same for checks: what is a constant to the planner can be estimated.
CREATE OR REPLACE FUNCTION @schema@.images_in(dataset text, version int) RETURNS SETOF @schema@.images LANGUAGE sql STABLE AS $$
	SELECT i.* FROM @schema@.images i WHERE i.dataset = images_in.dataset AND i.since <= images_in.version AND (i.until IS NULL OR i.until > images_in.version)
$$;
COMMENT ON FUNCTION @schema@.images_in(text, int) IS 'the images of a version';

CREATE OR REPLACE FUNCTION @schema@.annotations_in(dataset text, version int) RETURNS SETOF @schema@.annotations LANGUAGE sql STABLE AS $$
	SELECT a.* FROM @schema@.images i JOIN @schema@.annotations a USING (image_id)
	WHERE i.dataset = annotations_in.dataset AND i.since <= annotations_in.version AND (i.until IS NULL OR i.until > annotations_in.version)
		AND a.since <= annotations_in.version AND (a.until IS NULL OR a.until > annotations_in.version)
$$;
COMMENT ON FUNCTION @schema@.annotations_in(text, int) IS 'the annotations of a version';

CREATE OR REPLACE FUNCTION @schema@.looked_for(run bigint) RETURNS TABLE (kind text, severity text) LANGUAGE sql STABLE AS $$
	SELECT k.kind, s.severity FROM @schema@.runs r, @schema@.kinds k, LATERAL (SELECT coalesce(r.options #>> ARRAY['severity', k.kind], k.severity)) AS s (severity)
	WHERE r.run_id = looked_for.run AND s.severity <> 'off'
$$;
COMMENT ON FUNCTION @schema@.looked_for(bigint) IS 'the kinds of findings that a run looks for, with their severity in it';

CREATE OR REPLACE FUNCTION @schema@.note_figures(run bigint, key text, figures jsonb) RETURNS void LANGUAGE sql AS $$
	UPDATE @schema@.runs r SET figures = r.figures || jsonb_build_object(note_figures.key, note_figures.figures) WHERE r.run_id = note_figures.run
$$;
COMMENT ON FUNCTION @schema@.note_figures(bigint, text, jsonb) IS 'puts what a check has counted among the figures of its run';

-- A check that goes by facts alone need not look again at what an audit like this one has looked at.
CREATE OR REPLACE FUNCTION @schema@.rules_state() RETURNS text LANGUAGE sql STABLE AS $$
	SELECT md5(string_agg(k::text, E'\n' ORDER BY k.kind)) FROM @schema@.kinds k
$$;
COMMENT ON FUNCTION @schema@.rules_state() IS 'digest of kinds: audits under other rules cannot be compared';

CREATE OR REPLACE FUNCTION @schema@.audit_before(run bigint, "check" text) RETURNS bigint LANGUAGE sql STABLE AS $$
	SELECT max(o.run_id) FROM @schema@.runs r JOIN @schema@.runs o USING (dataset, version, activity, options)
	WHERE r.run_id = audit_before.run AND o.run_id < r.run_id AND o.ended_at IS NOT NULL
		AND o.figures ->> 'rules' = @schema@.rules_state() AND o.figures -> 'seconds' ? audit_before."check"
$$;
COMMENT ON FUNCTION @schema@.audit_before(bigint, text) IS 'the last audit of the same version that did this check with the same options and kinds; NULL: there is none';

CREATE OR REPLACE FUNCTION @schema@.carry_findings(run bigint, before bigint, kinds text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	PERFORM @schema@.need_items(run);
	INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, score, evidence, suggestion)
		SELECT carry_findings.run, f.kind, f.severity, t.split, f.image_id, f.score, f.evidence, f.suggestion
		FROM @schema@.findings f JOIN pg_temp.millrace_items t USING (image_id)
		WHERE f.run_id = carry_findings.before AND f.kind = ANY (carry_findings.kinds) AND t.seen_by <= carry_findings.before;
END $$;
COMMENT ON FUNCTION @schema@.carry_findings(bigint, bigint, text[]) IS 'takes over findings of an earlier audit about images whose facts are still the same';

-- ---- what the checks of a run read ----
-- Each would join images, facts and annotations for itself: so they are read once, into the temporary table millrace_items.

CREATE OR REPLACE FUNCTION @schema@.item_rows(dataset text, version int, embedder text, only_images bigint[] DEFAULT NULL)
	RETURNS TABLE (image_id bigint, split text, present boolean, unmeasured boolean, seen_by bigint, entropy real, embedded_by text, labels int, whole int, class_id int, last_class int,
		annotation_id bigint, digest bigint, low bigint, high bigint) LANGUAGE sql STABLE AS $$
	WITH i AS MATERIALIZED (
		SELECT i.image_id, i.split, i.path, i.content IS NOT NULL AS present FROM @schema@.images_in(item_rows.dataset, item_rows.version) i
		WHERE item_rows.only_images IS NULL OR i.image_id = ANY (item_rows.only_images)),
	l AS (
		SELECT a.image_id, count(*)::int AS labels, count(*) FILTER (WHERE a.x1 IS NULL)::int AS whole, coalesce(min(a.class_id) FILTER (WHERE a.x1 IS NULL), min(a.class_id)) AS class_id,
			coalesce(max(a.class_id) FILTER (WHERE a.x1 IS NULL), max(a.class_id)) AS last_class, coalesce(min(a.annotation_id) FILTER (WHERE a.x1 IS NULL), min(a.annotation_id)) AS annotation_id,
			bit_xor(a.digest) AS low, bit_xor(hashint8extended(a.digest, 1)) AS high
		FROM (SELECT b.image_id, b.annotation_id, b.class_id, b.x1, @schema@.annotation_digest(b.annotation_id, b.image_id, b.class_id, b.x1, b.y1, b.x2, b.y2, b.crowd, b.area) AS digest
			FROM i JOIN @schema@.annotations b USING (image_id)
			WHERE b.since <= item_rows.version AND (b.until IS NULL OR b.until > item_rows.version)
				AND (item_rows.only_images IS NULL OR b.image_id = ANY (item_rows.only_images)) OFFSET 0) a
		GROUP BY a.image_id)
	SELECT i.image_id, i.split, i.present, i.present AND f.measured IS NOT true, f.seen_by, f.entropy, f.embedded_by,
		coalesce(l.labels, 0), coalesce(l.whole, 0), l.class_id, l.last_class, l.annotation_id,
		CASE WHEN f.image_id IS NOT NULL OR NOT i.present THEN @schema@.image_digest(i.image_id, i.split, i.path, coalesce(f.content_sha256, sha256(''))) END, l.low, l.high
	FROM i LEFT JOIN l USING (image_id)
		-- computed before the join, through which vectors would go
		LEFT JOIN (SELECT o.image_id, o.content_sha256, o.seen_by, o.sqlstate IS NOT NULL OR o.embedded_by IS NOT DISTINCT FROM item_rows.embedder AS measured,
				CASE WHEN o.pixel_sha256 IS NOT NULL THEN coalesce(o.entropy, '-Infinity') END AS entropy, CASE WHEN o.embedding IS NOT NULL THEN o.embedded_by END AS embedded_by
			FROM @schema@.facts o) f USING (image_id)
$$;
COMMENT ON FUNCTION @schema@.item_rows(text, int, text, bigint[]) IS
	'the images of a version, or some of them, as checks read them: entropy of decoded ones, labels and how many of them are of the whole image (whole), the first and last class of these (else of all)';

CREATE OR REPLACE FUNCTION @schema@.read_items(dataset text, version int, run bigint DEFAULT NULL) RETURNS void LANGUAGE plpgsql
	SET work_mem = '64MB' SET default_statistics_target = 10 AS $$
DECLARE
	-- computed here, not for each row
	embedder text := @schema@.embedder();
BEGIN
	IF to_regclass('pg_temp.millrace_items') IS NULL THEN
		CREATE TEMP TABLE millrace_items (run_id bigint, image_id bigint, split text, present boolean, unmeasured boolean, seen_by bigint, entropy real, embedded_by text, labels int, whole int,
			class_id int, last_class int, annotation_id bigint, digest bigint, low bigint, high bigint) ON COMMIT DROP;
	END IF;
	TRUNCATE pg_temp.millrace_items;
	INSERT INTO pg_temp.millrace_items SELECT run, t.* FROM @schema@.item_rows(read_items.dataset, read_items.version, embedder) t;
	ANALYZE pg_temp.millrace_items (image_id, split, present, unmeasured, seen_by, entropy, embedded_by, labels, whole, class_id);
END $$;
COMMENT ON FUNCTION @schema@.read_items(text, int, bigint) IS 'the images of a version into the temporary table millrace_items; run: that all checks of which shall read it';

-- A check that is called by itself reads the tables as they are now.
CREATE OR REPLACE FUNCTION @schema@.need_items(run bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF to_regclass('pg_temp.millrace_items') IS NOT NULL THEN
		IF (SELECT t.run_id FROM pg_temp.millrace_items t LIMIT 1) = run THEN
			RETURN;
		END IF;
	END IF;
	PERFORM @schema@.read_items(r.dataset, r.version) FROM @schema@.runs r WHERE r.run_id = run;
END $$;
COMMENT ON FUNCTION @schema@.need_items(bigint) IS 'fills the temporary table millrace_items for a run, unless its audit has done so';

CREATE OR REPLACE FUNCTION @schema@.state_of_items() RETURNS bytea LANGUAGE plpgsql AS $$
BEGIN
	RETURN (SELECT @schema@.state_digest(count(*), bit_xor(t.digest), bit_xor(hashint8extended(t.digest, 1)), coalesce(sum(t.labels), 0), bit_xor(t.low), bit_xor(t.high)) FROM pg_temp.millrace_items t);
END $$;
COMMENT ON FUNCTION @schema@.state_of_items() IS 'dataset_state() of the version in the temporary table millrace_items';

-- ---- measuring ----

-- What an audit has not seen yet is found by it.
CREATE INDEX IF NOT EXISTS facts_seen_by ON @schema@.facts (seen_by);

-- Facts are of the content they were computed from, and what was said of them of the name.
CREATE OR REPLACE FUNCTION @schema@.forget_facts() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	DELETE FROM @schema@.facts f WHERE f.image_id = NEW.image_id;
	DELETE FROM @schema@.fits f WHERE f.image_id = NEW.image_id;
	DELETE FROM @schema@.noise n WHERE n.image_id = NEW.image_id;
	RETURN NULL;
END $$;
COMMENT ON FUNCTION @schema@.forget_facts() IS 'drops the facts of an image whose content or name has changed: the next audit measures it again';
CREATE OR REPLACE TRIGGER forget AFTER UPDATE OF content, path ON @schema@.images FOR EACH ROW
	WHEN (OLD.content IS DISTINCT FROM NEW.content OR OLD.path <> NEW.path)
	EXECUTE FUNCTION @schema@.forget_facts();

-- What checks keep is of facts as old as seen_by says: other facts are newer.
CREATE OR REPLACE FUNCTION @schema@.date_facts() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	NEW.seen_by := nextval(pg_get_serial_sequence('@schema@.runs', 'run_id'));
	RETURN NEW;
END $$;
COMMENT ON FUNCTION @schema@.date_facts() IS 'facts that are changed count as seen after all audits so far';
CREATE OR REPLACE TRIGGER date_facts BEFORE UPDATE ON @schema@.facts FOR EACH ROW
	WHEN (NEW.seen_by = OLD.seen_by AND ((OLD.pixel_sha256, OLD.hashes, OLD.entropy, OLD.thumbnail) IS DISTINCT FROM (NEW.pixel_sha256, NEW.hashes, NEW.entropy, NEW.thumbnail)
		OR OLD.embedding IS NOT NULL AND (OLD.embedding, OLD.embedded_by) IS DISTINCT FROM (NEW.embedding, NEW.embedded_by)))
	EXECUTE FUNCTION @schema@.date_facts();

CREATE OR REPLACE FUNCTION @schema@.unit_vector(v real[]) RETURNS real[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
	SELECT array_agg((x / coalesce(nullif(length, 0), 1))::real ORDER BY n) FROM unnest(v) WITH ORDINALITY AS u (x, n),
		(SELECT sqrt(sum(x::double precision * x)) FROM unnest(v) AS u (x)) AS l (length)
$$;
COMMENT ON FUNCTION @schema@.unit_vector(real[]) IS 'a vector of length 1 in the same direction; one of zeros stays';

-- The row of the data set is what audits of it take turns by.
CREATE OR REPLACE FUNCTION @schema@.take_turn(reference text) RETURNS void LANGUAGE sql AS $$
	SELECT FROM @schema@.datasets d WHERE d.dataset = split_part(reference, ':', 1) FOR NO KEY UPDATE
$$;
COMMENT ON FUNCTION @schema@.take_turn(text) IS 'waits for another audit of the same data set to end';

CREATE OR REPLACE FUNCTION @schema@.measure_images(reference text, todo bigint[], seer bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	batch CONSTANT int := 64;
	embedder text := @schema@.embedder();
	name_before text := current_setting('application_name');
	chunk bigint[];
	done int := 0;
BEGIN
	WHILE done < cardinality(todo) LOOP
		-- Seen by everybody at once, in pg_stat_activity.
		PERFORM set_config('application_name', left(format('measuring %s: %s of %s images', reference, done, cardinality(todo)), 63), true);
		chunk := todo[done + 1 : done + batch];
		INSERT INTO @schema@.facts (image_id, content_sha256, seen_by, sqlstate, message, format, width, height, channels, orientation, pixel_sha256, hashes,
				brightness, dark_share, bright_share, contrast, sharpness, entropy, colourfulness, black_corners, repeated, thumbnail, embedding, embedded_by)
			SELECT i.image_id, sha256(i.content), seer, f.*, CASE WHEN embedder = 'thumbnail' THEN f.thumbnail END, CASE WHEN embedder = 'thumbnail' AND f.thumbnail IS NOT NULL THEN embedder END
			FROM @schema@.images i, millrace.image_facts(i.content) f
			WHERE i.image_id = ANY (chunk) AND NOT EXISTS (SELECT FROM @schema@.facts o WHERE o.image_id = i.image_id);
		IF embedder = 'thumbnail' THEN
			UPDATE @schema@.facts f SET embedding = f.thumbnail, embedded_by = embedder, seen_by = seer
				WHERE f.image_id = ANY (chunk) AND f.sqlstate IS NULL AND f.embedded_by IS DISTINCT FROM embedder;
		ELSE
			WITH wanted AS (
				SELECT array_agg(i.image_id ORDER BY i.image_id) AS ids, array_agg(i.content ORDER BY i.image_id) AS contents
				FROM @schema@.images i JOIN @schema@.facts f USING (image_id)
				WHERE i.image_id = ANY (chunk) AND f.sqlstate IS NULL AND f.embedded_by IS DISTINCT FROM embedder)
			UPDATE @schema@.facts f SET embedding = @schema@.unit_vector(e.v), embedded_by = embedder, seen_by = seer
				FROM wanted w, @extschema@.extract_descriptors(w.contents, embedder) WITH ORDINALITY AS e (v, n)
				WHERE f.image_id = w.ids[e.n];
		END IF;
		done := done + cardinality(chunk);
	END LOOP;
	PERFORM set_config('application_name', name_before, true);
END $$;
COMMENT ON FUNCTION @schema@.measure_images(text, bigint[], bigint) IS
	'facts, and an embedding, for these images; seer: what facts.seen_by says of them. pg_stat_activity.application_name says how far it is';

CREATE OR REPLACE FUNCTION @schema@.measure(reference text, at_most int DEFAULT NULL, run bigint DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	embedder text := @schema@.embedder();
	place record;
	todo bigint[];
BEGIN
	PERFORM @schema@.resolve(reference);
	PERFORM @schema@.take_turn(reference);
	SELECT r.* INTO place FROM @schema@.resolve(reference) r;
	todo := ARRAY(SELECT i.image_id FROM @schema@.images_in(place.dataset, place.version) i LEFT JOIN @schema@.facts f USING (image_id)
		WHERE i.content IS NOT NULL AND (f.image_id IS NULL OR f.sqlstate IS NULL AND f.embedded_by IS DISTINCT FROM embedder)
		ORDER BY i.image_id LIMIT at_most);
	-- a number later than those of all audits that did not see these images
	PERFORM @schema@.measure_images(reference, todo, coalesce(run, nextval(pg_get_serial_sequence('@schema@.runs', 'run_id'))));
	RETURN cardinality(todo);
END $$;
COMMENT ON FUNCTION @schema@.measure(text, int, bigint) IS
	'facts, and an embedding, for at most so many images of a version that have none; returns how many there were. pg_stat_activity.application_name says how far it is';

CREATE OR REPLACE PROCEDURE @schema@.measure_all(reference text, batch int DEFAULT 1000) LANGUAGE plpgsql AS $$
DECLARE
	n bigint := 1;
BEGIN
	WHILE n > 0 LOOP
		n := @schema@.measure(reference, batch);
		COMMIT;
	END LOOP;
END $$;
COMMENT ON PROCEDURE @schema@.measure_all(text, int) IS 'measure() until nothing is left, a transaction for every so many images: what is done stays done when it is cancelled';

-- ---- audits ----
-- Compiling queries that run once costs more than it saves: jit is off.

-- A data set's own options with those of the call over them, checked.
CREATE OR REPLACE FUNCTION @schema@.audit_options(dataset text, options jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	own jsonb := (SELECT d.options FROM @schema@.datasets d WHERE d.dataset = audit_options.dataset);
	merged jsonb;
	bad record;
BEGIN
	IF jsonb_typeof(options) IS DISTINCT FROM 'object' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'options of audit must be a JSON object';
	END IF;
	merged := own || options;
	SELECT o.key, o.value INTO bad FROM jsonb_each(merged) o
		WHERE NOT (o.key IN ('checks', 'skip') AND jsonb_typeof(o.value) = 'array' OR jsonb_typeof(o.value) = 'object'
			AND (o.key IN ('thresholds', 'severity') OR EXISTS (SELECT FROM @schema@.checks c WHERE c."check" = o.key))) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid option of audit: "%s": %s', bad.key, left(bad.value::text, 100)),
			HINT = 'Options are checks and skip (arrays of checks), thresholds ({"dark": {"share": 0.95}}), severity ({"dark": "off"}), and objects by the name of a check.';
	END IF;
	SELECT n.name INTO bad FROM jsonb_array_elements_text(coalesce(merged -> 'checks', '[]') || coalesce(merged -> 'skip', '[]')) AS n (name)
		WHERE NOT EXISTS (SELECT FROM @schema@.checks c WHERE c."check" = n.name) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown check "%s"', bad.name),
			HINT = format('Checks are %s.', (SELECT string_agg(c."check", ', ' ORDER BY c.position) FROM @schema@.checks c));
	END IF;
	SELECT o.key INTO bad FROM jsonb_object_keys(coalesce(merged -> 'thresholds', '{}') || coalesce(merged -> 'severity', '{}')) AS o (key)
		WHERE NOT EXISTS (SELECT FROM @schema@.kinds k WHERE k.kind = o.key) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('unknown kind of findings: %s', bad.key), HINT = 'See @schema@.kinds.';
	END IF;
	SELECT o.key, o.value INTO bad FROM jsonb_each(merged -> 'severity') o WHERE o.value NOT IN ('"blocking"', '"warning"', '"info"', '"off"') LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid severity of %s: %s', bad.key, bad.value),
			HINT = 'A severity is blocking, warning, info or off.';
	END IF;
	SELECT o.key AS kind, t.key, t.value INTO bad FROM jsonb_each(merged -> 'thresholds') o
			CROSS JOIN LATERAL jsonb_each(CASE WHEN jsonb_typeof(o.value) = 'object' THEN o.value ELSE jsonb_build_object('', o.value) END) t JOIN @schema@.kinds k ON k.kind = o.key
		WHERE NOT k.thresholds ? t.key OR jsonb_typeof(t.value) <> 'number' LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('invalid threshold "%s" of %s: %s', bad.key, bad.kind, bad.value),
			HINT = coalesce((SELECT format('Its thresholds are numbers: %s.', string_agg(t.key, ', ' ORDER BY t.key)) FROM @schema@.kinds k, jsonb_object_keys(k.thresholds) AS t (key)
				WHERE k.kind = bad.kind HAVING count(*) > 0), 'It has none.');
	END IF;
	RETURN merged || jsonb_strip_nulls(jsonb_build_object('severity', nullif(coalesce(own -> 'severity', '{}') || coalesce(options -> 'severity', '{}'), '{}'),
		'thresholds', (SELECT jsonb_object_agg(k.key, coalesce(own #> ARRAY['thresholds', k.key], '{}') || coalesce(options #> ARRAY['thresholds', k.key], '{}'))
			FROM jsonb_object_keys(coalesce(own -> 'thresholds', '{}') || coalesce(options -> 'thresholds', '{}')) AS k (key))));
END $$;
COMMENT ON FUNCTION @schema@.audit_options(text, jsonb) IS 'what an audit goes by: its options over those of the data set; an ERROR where they say nothing known';

CREATE OR REPLACE FUNCTION @schema@.audit(dataset text, options jsonb DEFAULT '{}') RETURNS bigint LANGUAGE plpgsql SET jit = off SET work_mem = '64MB' AS $$
DECLARE
	name_before text := current_setting('application_name');
	began timestamptz := clock_timestamp();
	step timestamptz;
	embedder text := @schema@.embedder();
	wanted jsonb;
	place record;
	reference text;
	run bigint;
	unmeasured bigint[];
	new_images bigint;
	code regprocedure;
	seconds jsonb := '{}';
	c record;
BEGIN
	PERFORM @schema@.resolve(audit.dataset);
	PERFORM @schema@.take_turn(audit.dataset);
	-- The version may be another one after the wait.
	SELECT r.* INTO place FROM @schema@.resolve(audit.dataset) r;
	reference := format('%s:%s', place.dataset, place.version);
	wanted := @schema@.audit_options(place.dataset, options);
	INSERT INTO @schema@.runs (dataset, version, activity, state, options) VALUES (place.dataset, place.version, 'audit', '', wanted) RETURNING run_id INTO run;
	PERFORM @schema@.read_items(place.dataset, place.version, run);
	step := clock_timestamp();
	unmeasured := ARRAY(SELECT t.image_id FROM pg_temp.millrace_items t WHERE t.unmeasured ORDER BY t.image_id);
	new_images := cardinality(unmeasured);
	PERFORM @schema@.measure_images(reference, unmeasured, run);
	-- What has just been imported has no statistics yet, without which every join is a nested loop.
	IF new_images > 1000 AND new_images > (SELECT t.reltuples / 10 FROM pg_class t WHERE t.oid = '@schema@.facts'::regclass) THEN
		ANALYZE @schema@.images (image_id, dataset, split, since, until);
		ANALYZE @schema@.annotations (annotation_id, image_id, class_id, since, until, x1);
		ANALYZE @schema@.facts (image_id, seen_by, sqlstate, embedded_by);
		PERFORM @schema@.read_items(place.dataset, place.version, run);
	ELSIF new_images > 0 THEN
		DELETE FROM pg_temp.millrace_items t WHERE t.unmeasured;
		INSERT INTO pg_temp.millrace_items SELECT run, t.* FROM @schema@.item_rows(place.dataset, place.version, embedder, unmeasured) t;
		ANALYZE pg_temp.millrace_items (seen_by);
	END IF;
	UPDATE @schema@.runs r SET state = @schema@.state_of_items() WHERE r.run_id = run;
	seconds := jsonb_build_object('items', extract(epoch FROM step - began), 'measure', extract(epoch FROM clock_timestamp() - step));
	FOR c IN SELECT k."check", k.function FROM @schema@.checks k
			WHERE k.enabled AND coalesce(wanted -> 'checks' ? k."check", true) AND NOT coalesce(wanted -> 'skip' ? k."check", false)
			ORDER BY k.position, k."check" LOOP
		step := clock_timestamp();
		PERFORM set_config('application_name', left(format('auditing %s: %s', reference, c."check"), 63), true);
		code := coalesce(to_regprocedure(format('%I.%I(bigint)', @schema_literal@, c.function)), to_regprocedure(c.function || '(bigint)'));
		IF code IS NULL THEN
			RAISE EXCEPTION USING ERRCODE = 'undefined_function', MESSAGE = format('check "%s": function %s(run bigint) does not exist', c."check", c.function),
				HINT = 'UPDATE @schema@.checks, or disable the check.';
		END IF;
		EXECUTE format('SELECT %s($1)', code::oid::regproc) USING run;
		seconds := seconds || jsonb_build_object(c."check", extract(epoch FROM clock_timestamp() - step));
	END LOOP;
	UPDATE @schema@.runs r SET ended_at = clock_timestamp(), figures = r.figures || jsonb_build_object('rules', @schema@.rules_state(),
			'images', (SELECT count(*) FROM pg_temp.millrace_items), 'new_images', new_images,
			'annotations', (SELECT coalesce(sum(t.labels), 0) FROM pg_temp.millrace_items t),
			'findings', coalesce((SELECT jsonb_object_agg(f.severity, f.n) FROM (SELECT severity, count(*) AS n FROM @schema@.findings WHERE run_id = run GROUP BY severity) f), '{}'),
			'kinds', coalesce((SELECT jsonb_object_agg(f.kind, f.n) FROM (SELECT kind, count(*) AS n FROM @schema@.findings WHERE run_id = run GROUP BY kind) f), '{}'),
			'seconds', (SELECT jsonb_object_agg(s.key, round(s.value::numeric, 3)) FROM jsonb_each_text(seconds) s)
				|| jsonb_build_object('total', round(extract(epoch FROM clock_timestamp() - began)::numeric, 3)))
		WHERE r.run_id = run;
	TRUNCATE pg_temp.millrace_items;
	PERFORM millrace.observe(@schema_literal@, s.key, s.value::float8)
		FROM jsonb_each_text(seconds || jsonb_build_object('total', extract(epoch FROM clock_timestamp() - began))) s;
	PERFORM set_config('application_name', name_before, true);
	RETURN run;
END $$;
COMMENT ON FUNCTION @schema@.audit(text, jsonb) IS
	'looks at a data set (name or name:version) with every enabled check and returns the run, whose findings say what is wrong: latest_findings, findings_summary, health';

-- ---- what was found ----

CREATE OR REPLACE VIEW @schema@.latest_findings AS
	SELECT r.dataset, r.version, f.finding_id, f.run_id, k."check", f.kind, f.severity, w.kind IS NOT NULL AS waived, coalesce(f.split, i.split) AS split, i.path,
		o.split AS other_split, o.path AS other_path, c.class_name, f.score, f.evidence, f.suggestion,
		f.image_id, f.annotation_id, f.other_image_id, f.other_annotation_id, f.class_id
	FROM (SELECT DISTINCT ON (dataset) run_id, dataset, version FROM @schema@.runs WHERE activity = 'audit' AND ended_at IS NOT NULL ORDER BY dataset, run_id DESC) r
		JOIN @schema@.findings f USING (run_id) JOIN @schema@.kinds k USING (kind)
		LEFT JOIN @schema@.images i ON i.image_id = f.image_id
		LEFT JOIN @schema@.images o ON o.image_id = f.other_image_id
		LEFT JOIN @schema@.classes c ON c.dataset = r.dataset AND c.class_id = f.class_id
		LEFT JOIN @schema@.waivers w ON w.dataset = r.dataset AND w.kind = f.kind;
COMMENT ON VIEW @schema@.latest_findings IS 'findings of the last audit of each data set, with paths and class names';

CREATE OR REPLACE VIEW @schema@.findings_summary AS
	SELECT l.dataset, l.version, l.run_id, l."check", l.kind, l.severity, l.waived, count(*) AS findings, count(DISTINCT l.image_id) AS images, k.fix, k.description
	FROM @schema@.latest_findings l JOIN @schema@.kinds k USING (kind)
	GROUP BY l.dataset, l.version, l.run_id, l."check", l.kind, l.severity, l.waived, k.fix, k.description;
COMMENT ON VIEW @schema@.findings_summary IS 'how many findings of each kind the last audit of each data set has';

CREATE OR REPLACE VIEW @schema@.health AS
	SELECT d.dataset, d.version, d.task,
		(SELECT count(*) FROM @schema@.images_of(d.dataset)) AS images, (SELECT count(*) FROM @schema@.annotations_of(d.dataset)) AS annotations,
		(SELECT count(*) FROM @schema@.classes c WHERE c.dataset = d.dataset) AS classes,
		a.run_id, a.version AS audited_version, a.ended_at AS audited_at, a.version IS DISTINCT FROM d.version OR a.state IS DISTINCT FROM @schema@.dataset_state(d.dataset) AS stale,
		f.blocking, f.waived, f.warnings, f.notes, a.run_id IS NOT NULL AND f.blocking = 0 AS trainable
	FROM @schema@.datasets d
		LEFT JOIN LATERAL (SELECT * FROM @schema@.runs r WHERE r.dataset = d.dataset AND r.activity = 'audit' AND r.ended_at IS NOT NULL ORDER BY r.run_id DESC LIMIT 1) a ON true
		LEFT JOIN LATERAL (SELECT count(*) FILTER (WHERE f.severity = 'blocking' AND w.kind IS NULL) AS blocking, count(*) FILTER (WHERE f.severity = 'blocking' AND w.kind IS NOT NULL) AS waived,
				count(*) FILTER (WHERE f.severity = 'warning') AS warnings, count(*) FILTER (WHERE f.severity = 'info') AS notes
			FROM @schema@.findings f LEFT JOIN @schema@.waivers w ON w.dataset = d.dataset AND w.kind = f.kind WHERE f.run_id = a.run_id) f ON a.run_id IS NOT NULL;
COMMENT ON VIEW @schema@.health IS 'a line for each data set: how large, when last audited, what that found';
COMMENT ON COLUMN @schema@.health.stale IS 'the data set is no longer what was audited, or never was';
COMMENT ON COLUMN @schema@.health.blocking IS 'findings for which it may not be trained on; waived: those for which it may';
COMMENT ON COLUMN @schema@.health.notes IS 'findings of severity info';
COMMENT ON COLUMN @schema@.health.trainable IS 'audited, and nothing blocks that is not waived';

CREATE OR REPLACE FUNCTION @schema@.csv_line(VARIADIC fields text[]) RETURNS text LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT string_agg(CASE WHEN f ~ '[",\r\n]' THEN '"' || replace(f, '"', '""') || '"' ELSE coalesce(f, '') END, ',' ORDER BY n) FROM unnest(fields) WITH ORDINALITY AS u (f, n)
$$;
COMMENT ON FUNCTION @schema@.csv_line(text[]) IS 'fields as a line of CSV (RFC 4180), without its end';

CREATE OR REPLACE FUNCTION @schema@.findings_csv(dataset text) RETURNS text LANGUAGE sql STABLE AS $$
	SELECT string_agg(line, E'\n' ORDER BY n) || E'\n' FROM (
		SELECT 0 AS n, 'finding_id,check,kind,severity,waived,split,path,other_split,other_path,class,score,evidence,suggestion'
		UNION ALL
		SELECT l.finding_id, @schema@.csv_line(l.finding_id::text, l."check", l.kind, l.severity, l.waived::text, l.split, l.path, l.other_split, l.other_path, l.class_name,
			l.score::text, l.evidence::text, l.suggestion)
		FROM @schema@.latest_findings l WHERE l.dataset = findings_csv.dataset) AS x (n, line)
$$;
COMMENT ON FUNCTION @schema@.findings_csv(text) IS 'the findings of a data set''s last audit as CSV, with a header';
