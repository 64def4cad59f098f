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

CREATE OR REPLACE FUNCTION @schema@.carry_findings(run bigint, before bigint, kinds text[]) RETURNS void LANGUAGE sql AS $$
	INSERT INTO @schema@.findings (run_id, kind, severity, split, image_id, score, evidence, suggestion)
		SELECT carry_findings.run, f.kind, f.severity, i.split, f.image_id, f.score, f.evidence, f.suggestion
		FROM @schema@.findings f JOIN @schema@.images i USING (image_id) JOIN @schema@.facts x USING (image_id)
		WHERE f.run_id = carry_findings.before AND f.kind = ANY (kinds) AND x.seen_by <= before
$$;
COMMENT ON FUNCTION @schema@.carry_findings(bigint, bigint, text[]) IS 'takes over findings of an earlier audit about images whose facts are still the same';

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

CREATE OR REPLACE FUNCTION @schema@.measure(reference text, at_most int DEFAULT NULL, run bigint DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	batch CONSTANT int := 64;
	embedder text := (SELECT CASE WHEN s.embedder IS NULL THEN 'thumbnail' ELSE millrace.resolve_model(s.embedder) END FROM @schema@.settings s);
	name_before text := current_setting('application_name');
	place record;
	todo bigint[];
	chunk bigint[];
	done int := 0;
	-- a number later than those of all audits that did not see these images
	seer bigint := coalesce(run, nextval(pg_get_serial_sequence('@schema@.runs', 'run_id')));
BEGIN
	PERFORM @schema@.resolve(reference);
	PERFORM @schema@.take_turn(reference);
	SELECT r.* INTO place FROM @schema@.resolve(reference) r;
	todo := ARRAY(SELECT i.image_id FROM @schema@.images_in(place.dataset, place.version) i LEFT JOIN @schema@.facts f USING (image_id)
		WHERE i.content IS NOT NULL AND (f.image_id IS NULL OR f.sqlstate IS NULL AND f.embedded_by IS DISTINCT FROM embedder)
		ORDER BY i.image_id LIMIT at_most);
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
			UPDATE @schema@.facts f SET embedding = f.thumbnail, embedded_by = embedder
				WHERE f.image_id = ANY (chunk) AND f.sqlstate IS NULL AND f.embedded_by IS DISTINCT FROM embedder;
		ELSE
			WITH wanted AS (
				SELECT array_agg(i.image_id ORDER BY i.image_id) AS ids, array_agg(i.content ORDER BY i.image_id) AS contents
				FROM @schema@.images i JOIN @schema@.facts f USING (image_id)
				WHERE i.image_id = ANY (chunk) AND f.sqlstate IS NULL AND f.embedded_by IS DISTINCT FROM embedder)
			UPDATE @schema@.facts f SET embedding = @schema@.unit_vector(e.v), embedded_by = embedder
				FROM wanted w, @extschema@.extract_descriptors(w.contents, embedder) WITH ORDINALITY AS e (v, n)
				WHERE f.image_id = w.ids[e.n];
		END IF;
		done := done + cardinality(chunk);
	END LOOP;
	PERFORM set_config('application_name', name_before, true);
	RETURN done;
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

CREATE OR REPLACE FUNCTION @schema@.audit(dataset text, options jsonb DEFAULT '{}') RETURNS bigint LANGUAGE plpgsql SET jit = off AS $$
DECLARE
	name_before text := current_setting('application_name');
	began timestamptz := clock_timestamp();
	step timestamptz;
	wanted jsonb;
	place record;
	reference text;
	run bigint;
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
	run := @schema@.begin_run(reference, 'audit', NULL, wanted);
	step := clock_timestamp();
	new_images := @schema@.measure(reference, NULL, run);
	-- What has just been imported has no statistics yet, without which every join is a nested loop.
	IF new_images > 1000 AND new_images > (SELECT t.reltuples / 10 FROM pg_class t WHERE t.oid = '@schema@.facts'::regclass) THEN
		ANALYZE @schema@.images (image_id, dataset, split, since, until);
		ANALYZE @schema@.annotations (annotation_id, image_id, class_id, since, until, x1);
		ANALYZE @schema@.facts (image_id, seen_by, sqlstate, embedded_by);
	END IF;
	seconds := jsonb_build_object('state', extract(epoch FROM step - began), 'measure', extract(epoch FROM clock_timestamp() - step));
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
			'images', (SELECT count(*) FROM @schema@.images_in(place.dataset, place.version)), 'new_images', new_images,
			'annotations', (SELECT count(*) FROM @schema@.annotations_in(place.dataset, place.version)),
			'findings', coalesce((SELECT jsonb_object_agg(f.severity, f.n) FROM (SELECT severity, count(*) AS n FROM @schema@.findings WHERE run_id = run GROUP BY severity) f), '{}'),
			'kinds', coalesce((SELECT jsonb_object_agg(f.kind, f.n) FROM (SELECT kind, count(*) AS n FROM @schema@.findings WHERE run_id = run GROUP BY kind) f), '{}'),
			'seconds', (SELECT jsonb_object_agg(s.key, round(s.value::numeric, 3)) FROM jsonb_each_text(seconds) s)
				|| jsonb_build_object('total', round(extract(epoch FROM clock_timestamp() - began)::numeric, 3)))
		WHERE r.run_id = run;
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
