-- Pipeline "tabular": rows in; cleaned, turned into features, split, learnt, compared, classified, watched.
--
-- Run by millrace.create_pipeline() as the caller, with search_path pg_catalog, pg_temp.
-- @schema@ is the pipeline's schema, quoted; @schema_literal@ the same as a literal; @options@ the
-- caller's options as a jsonb literal; @extschema@ the schema of the extension's functions.  What is
-- created here are ordinary objects that belong to the caller.  Everything below the line
-- "-- upgrade" can be run again: millrace.upgrade_pipeline() does.
--
-- raw (a table of the declared columns) -> clean (a view: missing values, limits, rejections) ->
-- prepared (a view: derived features, normalised) -> features (a table: what was learnt from, split
-- for ever) -> predictions.  One row of runs is one period: what came, what was learnt, what won.

CREATE SCHEMA @schema@;
COMMENT ON SCHEMA @schema@ IS 'Millrace pipeline of kind tabular';

CREATE TABLE @schema@.declaration (
	only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
	options jsonb NOT NULL
);
COMMENT ON TABLE @schema@.declaration IS 'what create_pipeline() was told; UPDATE it, then SELECT define()';
INSERT INTO @schema@.declaration (options) VALUES (@options@::jsonb);

CREATE TABLE @schema@.scaling (
	feature text PRIMARY KEY,
	centre double precision NOT NULL,
	scale double precision NOT NULL,
	fitted_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE @schema@.scaling IS 'normalisation: (value - centre) / scale, fitted once on the training rows of the first period and kept';

CREATE TABLE @schema@.runs (
	run_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	period timestamptz NOT NULL UNIQUE,
	period_end timestamptz NOT NULL,
	state text NOT NULL CHECK (state IN ('done', 'failed')),
	attempts int NOT NULL DEFAULT 1,
	rows_raw bigint NOT NULL DEFAULT 0,
	rows_rejected bigint NOT NULL DEFAULT 0,
	rows_features bigint NOT NULL DEFAULT 0,
	rows_predicted bigint NOT NULL DEFAULT 0,
	champion_before text,
	candidates jsonb,
	challenge jsonb,
	champion_after text,
	drift jsonb,
	seconds jsonb,
	error text,
	started_at timestamptz NOT NULL,
	finished_at timestamptz NOT NULL
);
COMMENT ON TABLE @schema@.runs IS 'the lineage of one period: rows, candidates with their evaluations, the decision with its reason, alarms';
COMMENT ON COLUMN @schema@.runs.candidates IS 'one element per candidate: version, algorithm, evaluation id, accuracy and macro F1 on the frozen hold-out';
COMMENT ON COLUMN @schema@.runs.challenge IS 'what millrace.challenge_model() decided, and why';
COMMENT ON COLUMN @schema@.runs.seconds IS 'seconds of each stage';

-- upgrade

CREATE OR REPLACE FUNCTION @schema@.option(name text, fallback jsonb DEFAULT NULL) RETURNS jsonb
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT COALESCE((SELECT d.options -> name FROM @schema@.declaration d), fallback) $$;
COMMENT ON FUNCTION @schema@.option(text, jsonb) IS 'an option of the declaration, or its default';

CREATE OR REPLACE FUNCTION @schema@.features_declared() RETURNS TABLE (n int, name text, expression text)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	item record;
	part text[];
BEGIN
	FOR item IN SELECT e.value #>> '{}' AS text, e.ordinality::int AS n
		FROM jsonb_array_elements(@schema@.option('features')) WITH ORDINALITY e
	LOOP
		part := regexp_match(item.text, '^(.*)\s+as\s+("?)([^"\s]+)\2\s*$', 'i');
		n := item.n;
		name := COALESCE(part[3], item.text);
		expression := COALESCE(part[1], quote_ident(item.text));
		RETURN NEXT;
	END LOOP;
END $$;
COMMENT ON FUNCTION @schema@.features_declared() IS 'the features in their order: a column of raw, or "expression AS name"';

CREATE OR REPLACE FUNCTION @schema@.check_options() RETURNS void
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	o jsonb := (SELECT d.options FROM @schema@.declaration d);
	known CONSTANT text[] := '{columns,key,time,target,features,missing,limits,reject,normalise,test_share,seed,window,start,candidates,promote,min_rows,monitor,schedule,server,topic,source,http_prefix}';
	unknown text := (SELECT string_agg(k, ', ') FROM jsonb_object_keys(o) k WHERE k <> ALL (known));
	word text;
BEGIN
	IF unknown IS NOT NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = format('unknown option for a pipeline of kind "tabular": %s', unknown),
			HINT = 'Options are ' || array_to_string(known, ', ') || '.';
	END IF;
	FOREACH word IN ARRAY '{columns,key,target,features}'::text[] LOOP
		IF o -> word IS NULL OR (word <> 'features' AND jsonb_typeof(o -> word) <> 'string') THEN
			RAISE invalid_parameter_value USING MESSAGE = format('a pipeline of kind "tabular" needs the option "%s"', word),
				HINT = 'For example {"columns": "id bigint, seen timestamptz, x real, y real, kind text", "key": "id", "time": "seen", "target": "kind", "features": ["x", "y", "x - y AS x_y"]}.';
		END IF;
	END LOOP;
	IF jsonb_typeof(o -> 'features') <> 'array' OR jsonb_array_length(o -> 'features') = 0 THEN
		RAISE invalid_parameter_value USING MESSAGE = 'option "features" must be an array of columns and of expressions with names',
			HINT = 'For example ["u", "u - g AS u_g"].';
	END IF;
	IF (SELECT count(DISTINCT f.name) <> count(*) FROM @schema@.features_declared() f) THEN
		RAISE invalid_parameter_value USING MESSAGE = 'two features have one name';
	END IF;
	IF COALESCE(o ->> 'normalise', 'none') NOT IN ('none', 'standard', 'minmax', 'robust') THEN
		RAISE invalid_parameter_value USING MESSAGE = 'option "normalise" must be "none", "standard", "minmax" or "robust"';
	END IF;
	IF NOT COALESCE((o ->> 'test_share')::float8, 0.2) BETWEEN 0.01 AND 0.9 THEN
		RAISE invalid_parameter_value USING MESSAGE = 'option "test_share" must be a share from 0.01 to 0.9';
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.check_options() IS 'refuses a declaration that cannot be meant';

CREATE OR REPLACE FUNCTION @schema@.cleaned(col text, type regtype) RETURNS text
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	missing jsonb := @schema@.option('missing', '[]');
	limits jsonb := @schema@.option('limits', '{}') -> col;
	-- Numbers of a list for all columns cannot be compared with text, nor words with numbers.
	marker_type text := CASE WHEN type = ANY ('{int2,int4,int8,float4,float8,numeric}'::regtype[]) THEN 'number' ELSE 'string' END;
	conditions text := '';
	marker jsonb;
BEGIN
	IF jsonb_typeof(missing) = 'object' THEN
		missing := COALESCE(missing -> col, '[]');
		marker_type := NULL;
	END IF;
	FOR marker IN SELECT m.value FROM jsonb_array_elements(missing) m LOOP
		IF marker_type IS NULL OR jsonb_typeof(marker) = marker_type THEN
			conditions := conditions || format(' AND %I <> %L', col, marker #>> '{}');
		END IF;
	END LOOP;
	IF limits IS NOT NULL THEN
		conditions := conditions || format(' AND %I BETWEEN %L AND %L', col, limits ->> 0, limits ->> 1);
	END IF;
	RETURN CASE WHEN conditions = '' THEN quote_ident(col) ELSE format('CASE WHEN true%s THEN %I END AS %2$I', conditions, col) END;
END $$;
COMMENT ON FUNCTION @schema@.cleaned(text, regtype) IS 'a column of raw as an expression: null where it holds a marker of "missing" or lies outside its "limits"';

CREATE OR REPLACE FUNCTION @schema@.define() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	o jsonb := (SELECT d.options FROM @schema@.declaration d);
	target text := quote_ident(o ->> 'target');
	seen text := COALESCE(quote_ident(o ->> 'time'), 'received_at');
	width interval := COALESCE((o ->> 'window')::interval, '1 week');
	origin timestamptz := COALESCE((o ->> 'start')::timestamptz, '2000-01-03 00:00:00+00');
	method text := COALESCE(o ->> 'normalise', 'none');
	test_share float8 := COALESCE((o ->> 'test_share')::float8, 0.2);
	cleaned text;
	reason text;
BEGIN
	PERFORM @schema@.check_options();
	EXECUTE format('CREATE OR REPLACE FUNCTION @schema@.split_of(key text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE '
		'RETURN millrace.split_of(key, %s, %L)', COALESCE(o ->> 'seed', '0'), ARRAY[1 - test_share, test_share]);
	COMMENT ON FUNCTION @schema@.split_of(text) IS 'train or test: by a hash of the key, the same for ever';

	IF to_regclass('@schema@.raw') IS NULL THEN
		EXECUTE format('CREATE TABLE @schema@.raw (%s)', o ->> 'columns');
		ALTER TABLE @schema@.raw
			ADD row_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
			ADD received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
			ADD source text, ADD source_topic text, ADD source_partition int, ADD source_offset bigint;
		EXECUTE format('ALTER TABLE @schema@.raw ALTER %1$I SET NOT NULL, ADD CONSTRAINT raw_key UNIQUE (%1$I)', o ->> 'key');
		EXECUTE format('ALTER TABLE @schema@.raw ALTER %1$s SET NOT NULL', seen);
		EXECUTE format('CREATE INDEX raw_time ON @schema@.raw (%s)', seen);
		COMMENT ON TABLE @schema@.raw IS 'entry of the pipeline: COPY, INSERT … SELECT from a foreign table, a Kafka source, or load_object(); one row per key';
	END IF;

	SELECT string_agg(CASE WHEN a.attname IN (o ->> 'target', o ->> 'key', o ->> 'time') THEN quote_ident(a.attname)
			ELSE @schema@.cleaned(a.attname, a.atttypid) END, ', ' ORDER BY a.attnum)
	INTO cleaned
	FROM pg_attribute a
	WHERE a.attrelid = '@schema@.raw'::regclass AND a.attnum > 0 AND NOT a.attisdropped
		AND a.attname NOT IN ('row_id', 'received_at', 'source', 'source_topic', 'source_partition', 'source_offset');
	SELECT string_agg(format('WHEN (%s) THEN %L', r.value, r.key), ' ') INTO reason FROM jsonb_each_text(o -> 'reject') r;

	EXECUTE format('CREATE OR REPLACE VIEW @schema@.clean AS SELECT c.*, date_bin(%L, c.%s, %L) AS period, %s AS rejected FROM ('
		'SELECT row_id, %s%s FROM @schema@.raw) c', width, seen, origin,
		COALESCE('CASE ' || reason || ' END', 'NULL::text'), cleaned, CASE WHEN seen = 'received_at' THEN ', received_at' ELSE '' END);
	COMMENT ON VIEW @schema@.clean IS 'raw rows after the rules for missing values and limits; rejected says why a row is left out';

	EXECUTE format('CREATE OR REPLACE VIEW @schema@.prepared AS SELECT row_id, period, %s::text AS label, '
		'@schema@.split_of(%I::text) AS split, %s FROM @schema@.clean WHERE rejected IS NULL',
		target, o ->> 'key',
		(SELECT string_agg(CASE WHEN method = 'none' OR f.is_text THEN format('(%s) AS %I', f.expression, f.name) ELSE
			format('(((%s) - (SELECT s.centre FROM @schema@.scaling s WHERE s.feature = %L)) / (SELECT s.scale FROM @schema@.scaling s WHERE s.feature = %2$L))::real AS %I',
				f.expression, f.name, f.name) END, ', ' ORDER BY f.n)
		 FROM @schema@.features_typed() f));
	COMMENT ON VIEW @schema@.prepared IS 'clean rows with their features, as they would enter the table features now';

	IF to_regclass('@schema@.features') IS NULL THEN
		EXECUTE format('CREATE TABLE @schema@.features (row_id bigint PRIMARY KEY, run_id bigint NOT NULL REFERENCES @schema@.runs, '
			'period timestamptz NOT NULL, split text NOT NULL, label text, %s)',
			(SELECT string_agg(format('%I %s', f.name, CASE WHEN f.is_text THEN 'text' ELSE 'real' END), ', ' ORDER BY f.n) FROM @schema@.features_typed() f));
		CREATE INDEX features_period ON @schema@.features (period);
		COMMENT ON TABLE @schema@.features IS 'what is learnt from and classified; a row''s split never changes';

		CREATE TABLE @schema@.predictions (
			row_id bigint PRIMARY KEY,
			run_id bigint NOT NULL REFERENCES @schema@.runs,
			period timestamptz NOT NULL,
			model_name text NOT NULL,
			model_version int NOT NULL,
			label text NOT NULL,
			confidence real NOT NULL,
			unseen boolean NOT NULL,
			predicted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
			FOREIGN KEY (model_name, model_version) REFERENCES millrace.models (name, version)
		);
		CREATE INDEX predictions_period ON @schema@.predictions (period);
		COMMENT ON TABLE @schema@.predictions IS 'each row classified once, by the champion of the day before it was learnt from';
		COMMENT ON COLUMN @schema@.predictions.unseen IS 'false in the first period, whose rows the first champion was trained on';
	END IF;
	PERFORM @schema@.define_views();
	IF to_regprocedure('@schema@.define_serving()') IS NOT NULL THEN
		PERFORM @schema@.define_serving();
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.define() IS 'makes raw, clean, prepared and features from the declaration; views are made anew, tables stay';

CREATE OR REPLACE FUNCTION @schema@.features_typed() RETURNS TABLE (n int, name text, expression text, is_text boolean)
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$
BEGIN
	FOR n, name, expression IN SELECT d.n, d.name, d.expression FROM @schema@.features_declared() d LOOP
		EXECUTE format('SELECT pg_typeof(x.v)::text IN (''text'', ''character varying'', ''"char"'', ''character'', ''name'') FROM '
			'(SELECT (%s) AS v FROM (SELECT (NULL::@schema@.raw).*) r) x', expression) INTO is_text;
		RETURN NEXT;
	END LOOP;
END $$;
COMMENT ON FUNCTION @schema@.features_typed() IS 'the features and whether they are categories';

CREATE OR REPLACE FUNCTION @schema@.fit_scaling(until timestamptz) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	method text := @schema@.option('normalise', '"none"') #>> '{}';
	f record;
BEGIN
	IF method = 'none' THEN
		RETURN;
	END IF;
	FOR f IN SELECT t.* FROM @schema@.features_typed() t WHERE NOT t.is_text
		AND NOT EXISTS (SELECT FROM @schema@.scaling s WHERE s.feature = t.name) ORDER BY t.n
	LOOP
		EXECUTE format('INSERT INTO @schema@.scaling (feature, centre, scale) '
			'SELECT %L, COALESCE(s.centre, 0), COALESCE(NULLIF(s.scale, 0), 1) FROM (SELECT %s FROM (SELECT (%s)::float8 AS x FROM @schema@.clean '
			'WHERE rejected IS NULL AND period <= %L AND @schema@.split_of(%I::text) = ''train'') v) s',
			f.name,
			CASE method WHEN 'standard' THEN 'avg(x) AS centre, stddev_pop(x) AS scale'
				WHEN 'minmax' THEN 'min(x) AS centre, max(x) - min(x) AS scale'
				ELSE 'percentile_cont(0.5) WITHIN GROUP (ORDER BY x) AS centre, '
					'percentile_cont(0.75) WITHIN GROUP (ORDER BY x) - percentile_cont(0.25) WITHIN GROUP (ORDER BY x) AS scale' END,
			f.expression, until, @schema@.option('key') #>> '{}');
	END LOOP;
END $$;
COMMENT ON FUNCTION @schema@.fit_scaling(timestamptz) IS 'normalisation from the training rows up to a period, for features that have none yet';

CREATE OR REPLACE FUNCTION @schema@.feature_list() RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT string_agg(quote_ident(f.name), ', ' ORDER BY f.n) FROM @schema@.features_declared() f $$;
COMMENT ON FUNCTION @schema@.feature_list() IS 'the names of the features, quoted';

CREATE OR REPLACE FUNCTION @schema@.training_query(split text, until timestamptz) RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT format('SELECT label, %s FROM @schema@.features WHERE split = %L AND label IS NOT NULL AND period <= %L ORDER BY row_id',
		@schema@.feature_list(), split, until) $$;
COMMENT ON FUNCTION @schema@.training_query(text, timestamptz) IS 'the labelled rows of a split up to a period, in a fixed order';

CREATE OR REPLACE FUNCTION @schema@.champion() RETURNS text
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
	AS $$ SELECT format('%s:%s', a.name, a.version) FROM millrace.model_aliases a WHERE a.name = @schema_literal@ AND a.alias = 'champion' $$;
COMMENT ON FUNCTION @schema@.champion() IS 'the version that classifies now; null before the first training';

CREATE OR REPLACE FUNCTION @schema@.classify_new(run_id bigint, unseen boolean) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	champion text := @schema@.champion();
	n bigint;
BEGIN
	IF champion IS NULL THEN
		RETURN 0;
	END IF;
	INSERT INTO @schema@.predictions (row_id, run_id, period, model_name, model_version, label, confidence, unseen)
	SELECT f.row_id, classify_new.run_id, f.period, split_part(champion, ':', 1), split_part(champion, ':', 2)::int, c.label, c.confidence, classify_new.unseen
	FROM @schema@.features f, LATERAL @extschema@.classify(millrace.model_features(champion, f), champion) c
	WHERE NOT EXISTS (SELECT FROM @schema@.predictions p WHERE p.row_id = f.row_id);
	GET DIAGNOSTICS n = ROW_COUNT;
	RETURN n;
END $$;
COMMENT ON FUNCTION @schema@.classify_new(bigint, boolean) IS 'classifies the rows of features that have no prediction yet with the champion';

-- Candidates trained on what is labelled so far and measured on the frozen hold-out; the best of them
-- challenges the champion on the same rows.
CREATE OR REPLACE FUNCTION @schema@.train_and_challenge(until timestamptz, OUT candidates jsonb, OUT challenge jsonb)
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	wanted jsonb := @schema@.option('candidates', '[{"algorithm": "gradient_boosting"}]');
	rule jsonb := @schema@.option('promote', '{}');
	metric text := COALESCE(rule ->> 'metric', 'accuracy');
	training text := @schema@.training_query('train', until);
	holdout text := @schema@.training_query('test', until);
	candidate jsonb;
	version int;
	best int;
	score float8;
	best_score float8;
	evaluation bigint;
	figures jsonb;
	message text;
BEGIN
	candidates := '[]';
	FOR candidate IN SELECT c.value FROM jsonb_array_elements(wanted) c LOOP
		BEGIN
			version := millrace.train_model(@schema_literal@, candidate ->> 'algorithm', training, 'label',
				jsonb_build_object('random_state', @schema@.option('seed', '0')) || COALESCE(candidate -> 'options', '{}'));
			evaluation := millrace.evaluate_model(format('%s:%s', @schema_literal@, version), holdout, 'label');
		EXCEPTION WHEN OTHERS THEN
			-- One that cannot be trained does not cost the week the others.
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
			candidates := candidates || jsonb_build_object('algorithm', candidate ->> 'algorithm', 'error', message);
			CONTINUE;
		END;
		SELECT to_jsonb(e) INTO figures FROM millrace.evaluations e WHERE e.id = evaluation;
		score := COALESCE(figures ->> metric, figures -> 'metrics' ->> metric)::float8;
		-- A loss is better when it is lower.
		score := CASE WHEN metric IN ('log_loss', 'brier', 'rmse', 'mae') THEN -score ELSE score END;
		candidates := candidates || jsonb_build_object('version', version, 'algorithm', candidate ->> 'algorithm', 'evaluation', evaluation,
			'rows', figures -> 'rows', 'accuracy', figures -> 'accuracy', 'f1_macro', figures -> 'f1_macro');
		IF best IS NULL OR score > best_score THEN
			best := version;
			best_score := score;
		END IF;
	END LOOP;
	IF best IS NULL THEN
		RAISE EXCEPTION USING MESSAGE = format('no candidate of pipeline "%s" could be trained: %s', @schema_literal@, message), DETAIL = candidates::text;
	END IF;
	challenge := millrace.challenge_model(@schema_literal@, best, holdout, 'label', rule);
	-- Rows of versions stay, with their figures; bytes are kept of those that ever were champion.
	PERFORM millrace.drop_model(@schema_literal@, (c.value ->> 'version')::int)
	FROM jsonb_array_elements(candidates) c
	WHERE c.value ? 'version' AND NOT EXISTS (SELECT FROM millrace.alias_history h WHERE h.name = @schema_literal@ AND h.version = (c.value ->> 'version')::int);
END $$;
COMMENT ON FUNCTION @schema@.train_and_challenge(timestamptz) IS 'new versions of the model and the decision about the best of them';

CREATE OR REPLACE FUNCTION @schema@.run_period(period timestamptz) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	width interval := @schema@.option('window', '"1 week"') #>> '{}';
	least int := COALESCE((@schema@.option('min_rows', '100') #>> '{}')::int, 100);
	r @schema@.runs;
	began timestamptz := clock_timestamp();
	mark timestamptz := clock_timestamp();
	labelled bigint;
	done bigint;
BEGIN
	-- One run at a time; whoever waited sees what the other did.
	PERFORM FROM @schema@.declaration d FOR UPDATE;
	period := date_bin(width, run_period.period, COALESCE((@schema@.option('start') #>> '{}')::timestamptz, '2000-01-03 00:00:00+00'));
	SELECT s.run_id INTO done FROM @schema@.runs s WHERE s.period = run_period.period AND s.state = 'done';
	IF FOUND THEN
		RETURN done;
	END IF;
	IF EXISTS (SELECT FROM @schema@.clean c WHERE c.period < run_period.period
		AND c.period > COALESCE((SELECT min(s.period) FROM @schema@.runs s), '-infinity')
		AND NOT EXISTS (SELECT FROM @schema@.runs s WHERE s.period = c.period AND s.state = 'done')) THEN
		RAISE object_not_in_prerequisite_state USING MESSAGE = format('a period before %s has not been run', period),
			HINT = 'SELECT * FROM @schema@.catch_up() runs them in order.';
	END IF;
	INSERT INTO @schema@.runs AS s (period, period_end, state, champion_before, started_at, finished_at)
	VALUES (period, period + width, 'done', @schema@.champion(), began, began)
	ON CONFLICT ON CONSTRAINT runs_period_key DO UPDATE
		SET state = 'done', attempts = s.attempts + 1, error = NULL, champion_before = excluded.champion_before, started_at = began
	RETURNING s.* INTO r;
	r.seconds := '{}';

	PERFORM @schema@.fit_scaling(period);
	SELECT count(*), count(c.rejected) INTO r.rows_raw, r.rows_rejected FROM @schema@.clean c WHERE c.period = run_period.period;
	EXECUTE format('INSERT INTO @schema@.features (row_id, run_id, period, split, label, %1$s) SELECT row_id, $1, period, split, label, %1$s '
		'FROM @schema@.prepared p WHERE p.period <= $2 AND NOT EXISTS (SELECT FROM @schema@.features f WHERE f.row_id = p.row_id) ORDER BY row_id',
		@schema@.feature_list()) USING r.run_id, period;
	GET DIAGNOSTICS r.rows_features = ROW_COUNT;
	r.seconds := r.seconds || jsonb_build_object('features', EXTRACT(epoch FROM clock_timestamp() - mark));
	mark := clock_timestamp();

	r.rows_predicted := @schema@.classify_new(r.run_id, true);
	r.seconds := r.seconds || jsonb_build_object('classify', EXTRACT(epoch FROM clock_timestamp() - mark));
	mark := clock_timestamp();

	IF @schema@.option('monitor', '{}') <> 'false' THEN
		r.drift := @schema@.watch(period + width);
		r.seconds := r.seconds || jsonb_build_object('watch', EXTRACT(epoch FROM clock_timestamp() - mark));
		mark := clock_timestamp();
	END IF;

	SELECT LEAST(count(*) FILTER (WHERE f.split = 'train'), count(*) FILTER (WHERE f.split = 'test') * 4) INTO labelled
	FROM @schema@.features f WHERE f.label IS NOT NULL;
	IF r.rows_features > 0 AND labelled >= least THEN
		SELECT t.* INTO r.candidates, r.challenge FROM @schema@.train_and_challenge(period) t;
		r.seconds := r.seconds || jsonb_build_object('train', EXTRACT(epoch FROM clock_timestamp() - mark));
	END IF;
	r.champion_after := @schema@.champion();
	IF r.champion_before IS NULL THEN
		r.rows_predicted := @schema@.classify_new(r.run_id, false);
	END IF;
	UPDATE @schema@.runs s SET rows_raw = r.rows_raw, rows_rejected = r.rows_rejected, rows_features = r.rows_features,
		rows_predicted = r.rows_predicted, candidates = r.candidates, challenge = r.challenge, champion_after = r.champion_after,
		drift = r.drift, seconds = r.seconds, finished_at = clock_timestamp()
	WHERE s.run_id = r.run_id;
	-- Metric millrace_stage_seconds: a row's share of what classifying them took, and the other steps once a run.
	PERFORM millrace.observe(@schema_literal@, 'classify', (r.seconds ->> 'classify')::float8 / NULLIF(r.rows_predicted, 0), r.rows_predicted);
	PERFORM millrace.observe(@schema_literal@, s.key, s.value::float8)
		FROM jsonb_each_text(r.seconds || jsonb_build_object('total', extract(epoch FROM clock_timestamp() - began))) s WHERE s.key <> 'classify';
	RETURN r.run_id;
END $$;
COMMENT ON FUNCTION @schema@.run_period(timestamptz) IS
	'everything for one period: features, predictions, drift, training, challenge; again for the same period changes nothing; returns the run';

CREATE OR REPLACE FUNCTION @schema@.catch_up(until timestamptz DEFAULT now()) RETURNS SETOF @schema@.runs
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	width interval := @schema@.option('window', '"1 week"') #>> '{}';
	origin timestamptz := COALESCE((@schema@.option('start') #>> '{}')::timestamptz, '2000-01-03 00:00:00+00');
	p timestamptz;
	id bigint;
	message text;
BEGIN
	PERFORM FROM @schema@.declaration d FOR UPDATE;
	SELECT min(c.period) INTO p FROM @schema@.clean c
	WHERE c.period >= COALESCE((SELECT max(s.period) + width FROM @schema@.runs s WHERE s.state = 'done'), '-infinity');
	p := LEAST(p, (SELECT max(s.period) + width FROM @schema@.runs s WHERE s.state = 'done'));
	WHILE p + width <= until LOOP
		BEGIN
			id := @schema@.run_period(p);
			RETURN QUERY SELECT s.* FROM @schema@.runs s WHERE s.run_id = id;
		EXCEPTION WHEN OTHERS THEN
			-- Kept as a row; later periods wait for this one.
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
			RETURN QUERY INSERT INTO @schema@.runs AS s (period, period_end, state, error, started_at, finished_at)
				VALUES (p, p + width, 'failed', message, clock_timestamp(), clock_timestamp())
				ON CONFLICT ON CONSTRAINT runs_period_key DO UPDATE
					SET state = 'failed', attempts = s.attempts + 1, error = excluded.error, finished_at = excluded.finished_at
				RETURNING s.*;
			RETURN;
		END;
		p := p + width;
	END LOOP;
END $$;
COMMENT ON FUNCTION @schema@.catch_up(timestamptz) IS
	'runs every period that is over and not done, in order; stops at one that fails, which the next call tries again';

CREATE OR REPLACE FUNCTION @schema@.define_views() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	numbers text := (SELECT string_agg(format('(%s, %L, f.%I::float8)', t.n, t.name, t.name), ', ' ORDER BY t.n) FROM @schema@.features_typed() t WHERE NOT t.is_text);
	texts text := (SELECT string_agg(format('(%s, %L, f.%I)', t.n, t.name, t.name), ', ' ORDER BY t.n) FROM @schema@.features_typed() t WHERE t.is_text);
BEGIN
	EXECUTE format('CREATE OR REPLACE VIEW @schema@.feature_values AS SELECT f.row_id, f.period, f.split, f.label, v.n, v.feature, v.value '
		'FROM @schema@.features f, LATERAL (VALUES %s) v(n, feature, value)', COALESCE(numbers, '(0, NULL, NULL::float8)'));
	COMMENT ON VIEW @schema@.feature_values IS 'numeric features, one row per row and feature';
	EXECUTE format('CREATE OR REPLACE VIEW @schema@.category_values AS SELECT f.row_id, f.period, f.split, f.label, v.n, v.feature, v.value '
		'FROM @schema@.features f, LATERAL (VALUES %s) v(n, feature, value)%s', COALESCE(texts, '(0, NULL, NULL::text)'),
		CASE WHEN texts IS NULL THEN ' WHERE false' ELSE '' END);
	COMMENT ON VIEW @schema@.category_values IS 'text features, one row per row and feature';

	CREATE OR REPLACE VIEW @schema@.feature_statistics AS
		SELECT v.feature, v.split, count(*) AS rows, count(v.value) AS present, round(100.0 * count(*) FILTER (WHERE v.value IS NULL) / count(*), 2) AS missing_percent,
			min(v.value)::real AS min, percentile_cont(0.25) WITHIN GROUP (ORDER BY v.value)::real AS p25, percentile_cont(0.5) WITHIN GROUP (ORDER BY v.value)::real AS median,
			percentile_cont(0.75) WITHIN GROUP (ORDER BY v.value)::real AS p75, max(v.value)::real AS max, avg(v.value)::real AS mean, stddev_samp(v.value)::real AS sd
		FROM @schema@.feature_values v GROUP BY v.n, v.feature, v.split;
	COMMENT ON VIEW @schema@.feature_statistics IS 'numeric features by split';

	CREATE OR REPLACE VIEW @schema@.missing_values AS
		SELECT v.period, v.feature, count(*) AS rows, count(*) FILTER (WHERE v.value IS NULL) AS missing, round(100.0 * count(*) FILTER (WHERE v.value IS NULL) / count(*), 2) AS missing_percent
		FROM (SELECT n.period, n.feature, n.value::text FROM @schema@.feature_values n UNION ALL SELECT c.period, c.feature, c.value FROM @schema@.category_values c) v
		GROUP BY v.period, v.feature;
	COMMENT ON VIEW @schema@.missing_values IS 'share of missing values by period and feature';

	CREATE OR REPLACE VIEW @schema@.histograms AS
		SELECT v.feature, v.label, b.bin, (b.low + b.step * (b.bin - 1))::real AS low, (b.low + b.step * b.bin)::real AS high, count(*) AS rows
		FROM @schema@.feature_values v
		JOIN (SELECT x.feature, min(x.value) AS low, NULLIF(max(x.value) - min(x.value), 0) / 20 AS step FROM @schema@.feature_values x GROUP BY x.feature) r USING (feature),
		LATERAL (SELECT r.low, COALESCE(r.step, 1) AS step, LEAST(floor((v.value - r.low) / COALESCE(r.step, 1))::int + 1, 20) AS bin) b
		WHERE v.value IS NOT NULL
		GROUP BY v.feature, v.label, b.bin, b.low, b.step;
	COMMENT ON VIEW @schema@.histograms IS 'distribution of each numeric feature by label, in 20 bins of equal width';

	CREATE OR REPLACE VIEW @schema@.outliers AS
		SELECT v.row_id, v.period, v.label, v.feature, v.value::real AS value, ((v.value - q.median) / NULLIF(q.iqr, 0))::real AS iqrs_from_median
		FROM @schema@.feature_values v
		JOIN (SELECT x.feature, percentile_cont(0.5) WITHIN GROUP (ORDER BY x.value) AS median,
				percentile_cont(0.25) WITHIN GROUP (ORDER BY x.value) AS p25, percentile_cont(0.75) WITHIN GROUP (ORDER BY x.value) AS p75,
				percentile_cont(0.75) WITHIN GROUP (ORDER BY x.value) - percentile_cont(0.25) WITHIN GROUP (ORDER BY x.value) AS iqr
			FROM @schema@.feature_values x GROUP BY x.feature) q USING (feature)
		WHERE v.value < q.p25 - 3 * q.iqr OR v.value > q.p75 + 3 * q.iqr;
	COMMENT ON VIEW @schema@.outliers IS 'values more than three interquartile ranges beyond the quartiles';

	CREATE OR REPLACE VIEW @schema@.rejected AS
		SELECT c.row_id, c.period, c.rejected AS reason FROM @schema@.clean c WHERE c.rejected IS NOT NULL;
	COMMENT ON VIEW @schema@.rejected IS 'rows that a rule of "reject" keeps out, and why';

	CREATE OR REPLACE VIEW @schema@.scored AS
		SELECT p.row_id, p.period, f.label AS truth, p.label AS predicted, p.confidence, format('%s:%s', p.model_name, p.model_version) AS model, p.unseen, f.split
		FROM @schema@.predictions p JOIN @schema@.features f USING (row_id) WHERE f.label IS NOT NULL;
	COMMENT ON VIEW @schema@.scored IS 'predictions beside the truth where it is known';

	CREATE OR REPLACE VIEW @schema@.weekly_performance AS
		SELECT s.period, s.model, s.unseen, count(*) AS rows, round(100 * avg((s.truth = s.predicted)::int), 2) AS accuracy_percent,
			round((100 * millrace.f1(s.truth, s.predicted))::numeric, 2) AS f1_macro_percent, round(avg(s.confidence)::numeric, 3) AS mean_confidence
		FROM @schema@.scored s GROUP BY s.period, s.model, s.unseen;
	COMMENT ON VIEW @schema@.weekly_performance IS 'how the champion of the day did on each period''s new rows, which it had not seen';

	CREATE OR REPLACE VIEW @schema@.confusion_matrix AS
		SELECT s.truth, s.predicted, count(*) AS rows, round(100.0 * count(*) / sum(count(*)) OVER (PARTITION BY s.truth), 2) AS percent_of_truth
		FROM @schema@.scored s WHERE s.unseen GROUP BY s.truth, s.predicted;
	COMMENT ON VIEW @schema@.confusion_matrix IS 'all unseen predictions: truth against prediction';

	CREATE OR REPLACE VIEW @schema@.error_analysis AS
		SELECT s.row_id, s.period, s.truth, s.predicted, s.confidence, s.model
		FROM @schema@.scored s WHERE s.unseen AND s.truth <> s.predicted ORDER BY s.confidence DESC;
	COMMENT ON VIEW @schema@.error_analysis IS 'wrong predictions, the surest first';

	CREATE OR REPLACE VIEW @schema@.class_distribution AS
		SELECT p.period, p.label, count(*) AS rows, round(100.0 * count(*) / sum(count(*)) OVER (PARTITION BY p.period), 2) AS percent
		FROM @schema@.predictions p GROUP BY p.period, p.label;
	COMMENT ON VIEW @schema@.class_distribution IS 'what was predicted, by period';

	CREATE OR REPLACE VIEW @schema@.champions AS
		SELECT h.version, h.live, h.reason, m.kind AS algorithm, m.training -> 'parameters' AS parameters
		FROM millrace.model_history h LEFT JOIN millrace.models m ON m.name = h.name AND m.version = h.version
		WHERE h.name = @schema_literal@ AND h.alias = 'champion';
	COMMENT ON VIEW @schema@.champions IS 'which version classified, and when: WHERE live @> the time in question';

	CREATE OR REPLACE VIEW @schema@.operations AS
		SELECT r.period, r.state, r.attempts, r.rows_raw, round(100.0 * r.rows_rejected / NULLIF(r.rows_raw, 0), 2) AS rejected_percent, r.rows_predicted,
			round((r.seconds ->> 'features')::numeric, 3) AS features_s, round((r.seconds ->> 'classify')::numeric, 3) AS classify_s,
			round((r.seconds ->> 'watch')::numeric, 3) AS watch_s, round((r.seconds ->> 'train')::numeric, 3) AS train_s,
			round((1e6 * (r.seconds ->> 'classify')::numeric / NULLIF(r.rows_predicted, 0)), 2) AS us_per_prediction,
			round(EXTRACT(epoch FROM r.finished_at - r.started_at), 3) AS seconds, r.error
		FROM @schema@.runs r;
	COMMENT ON VIEW @schema@.operations IS 'latency, rows and errors of each run';
END $$;
COMMENT ON FUNCTION @schema@.define_views() IS 'makes the views that show the pipeline';

CREATE OR REPLACE VIEW @schema@.drift AS
	SELECT d.window_start AS period, d.role, d.column_name, d.rows, d.psi, d.ks, d.shift, d.jensen_shannon, d.chi2, d.missing, d.new_categories, d.adjusted_p, d.alarm, d.reason
	FROM millrace.drift d WHERE d.monitor = @schema_literal@;
COMMENT ON VIEW @schema@.drift IS 'each feature and the prediction, period by period, against the reference';

CREATE OR REPLACE VIEW @schema@.evaluation_curves AS
	SELECT r.period, format('%s:%s', e.name, e.version) AS model, p.curve, p.label, p.point, p.threshold, p.x, p.y
	FROM @schema@.runs r, jsonb_to_recordset(r.candidates) c(version int, evaluation bigint), millrace.evaluations e, millrace.evaluation_points p
	WHERE e.id = c.evaluation AND p.evaluation = e.id AND e.name = @schema_literal@;
COMMENT ON VIEW @schema@.evaluation_curves IS 'points of each candidate''s curves on the hold-out, one label against the rest; calibration too';
CREATE OR REPLACE VIEW @schema@.roc_curve AS
	SELECT c.period, c.model, c.label, c.threshold, c.x AS false_positive_rate, c.y AS true_positive_rate FROM @schema@.evaluation_curves c WHERE c.curve = 'roc';
COMMENT ON VIEW @schema@.roc_curve IS 'receiver operating characteristic of each candidate on the hold-out';
CREATE OR REPLACE VIEW @schema@.pr_curve AS
	SELECT c.period, c.model, c.label, c.threshold, c.x AS recall, c.y AS precision FROM @schema@.evaluation_curves c WHERE c.curve = 'pr';
COMMENT ON VIEW @schema@.pr_curve IS 'precision and recall of each candidate on the hold-out';

-- The first four periods are what later ones are compared with, unless option "monitor" says otherwise.
CREATE OR REPLACE FUNCTION @schema@.watch(until timestamptz) RETURNS jsonb
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	width text := @schema@.option('window', '"1 week"') #>> '{}';
	origin timestamptz := (SELECT min(r.period) FROM @schema@.runs r);
	reference_end timestamptz := origin + 4 * width::interval;
	message text;
BEGIN
	IF NOT EXISTS (SELECT FROM millrace.monitors m WHERE m.name = @schema_literal@) THEN
		IF until < reference_end THEN
			RETURN NULL;
		END IF;
		BEGIN
			PERFORM millrace.create_monitor(@schema_literal@,
				format('SELECT f.period, %s, p.label AS predicted, f.label FROM @schema@.features f LEFT JOIN @schema@.predictions p USING (row_id)',
					(SELECT string_agg('f.' || quote_ident(d.name), ', ' ORDER BY d.n) FROM @schema@.features_declared() d)),
				jsonb_build_object('time', 'period', 'window', width, 'start', reference_end,
					'reference', jsonb_build_object('from', origin, 'to', reference_end), 'prediction', '["predicted"]'::jsonb, 'scheduled', false)
				|| @schema@.option('monitor', '{}'));
		EXCEPTION WHEN invalid_parameter_value THEN
			-- Too few rows as yet: the next period tries again.
			GET STACKED DIAGNOSTICS message = MESSAGE_TEXT;
			RETURN jsonb_build_object('waiting', message);
		END;
	END IF;
	PERFORM millrace.run_monitor(@schema_literal@, until);
	RETURN COALESCE((SELECT jsonb_agg(jsonb_build_object('column', a.column_name, 'role', a.role, 'reason', a.reason) ORDER BY a.role, a.column_name)
		FROM millrace.drift_alarms a WHERE a.monitor = @schema_literal@ AND a.window_end = until), '[]');
END $$;
COMMENT ON FUNCTION @schema@.watch(timestamptz) IS 'brings the monitor of the features up to date; returns the alarms of the period that ends then';

CREATE OR REPLACE FUNCTION @schema@.schedule() RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	every jsonb := @schema@.option('schedule', '"1 day"');
BEGIN
	IF every <> 'false' THEN
		PERFORM millrace.create_schedule(@schema_literal@, (every #>> '{}')::interval, 'SELECT FROM @schema@.catch_up()');
	END IF;
END $$;
COMMENT ON FUNCTION @schema@.schedule() IS 'lets millrace.run_due() call catch_up() every so long: option "schedule"';

SELECT @schema@.define();
SELECT @schema@.schedule();
