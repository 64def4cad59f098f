-- Pipeline "tabular", objects: the HTTP worker fetches a CSV or JSON lines from a store, deliver_objects() makes rows of it.
--
-- Run behind tabular.sql, and again by upgrade_pipeline().

CREATE TABLE IF NOT EXISTS @schema@.loads (
	load_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	server text NOT NULL,
	path text NOT NULL,
	format text NOT NULL,
	options jsonb NOT NULL,
	state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'failed')),
	rows_read bigint,
	rows_loaded bigint,
	rows_known bigint,
	rows_bad bigint,
	sqlstate text,
	error text,
	requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
	finished_at timestamptz
);
COMMENT ON TABLE @schema@.loads IS 'objects that load_object() asked for, and what came of them';
COMMENT ON COLUMN @schema@.loads.rows_known IS 'rows whose key raw had already: an object loaded twice changes nothing';
COMMENT ON COLUMN @schema@.loads.rows_bad IS 'rows in load_failures';

CREATE TABLE IF NOT EXISTS @schema@.load_failures (
	load_id bigint NOT NULL REFERENCES @schema@.loads,
	line bigint NOT NULL,
	sqlstate text NOT NULL,
	message text NOT NULL,
	fields text[] NOT NULL,
	PRIMARY KEY (load_id, line)
);
COMMENT ON TABLE @schema@.load_failures IS 'rows of objects that could not become rows of raw';

CREATE OR REPLACE FUNCTION @schema@.load_object(server text, path text, format text DEFAULT 'csv', options jsonb DEFAULT '{}') RETURNS bigint
	LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	known CONSTANT text[] := CASE format WHEN 'csv' THEN '{header,columns,delimiter,quote,escape,null,encoding,max_bad}' ELSE '{columns,max_bad}' END;
	unknown text := (SELECT string_agg(k, ', ') FROM jsonb_object_keys(options) k WHERE k <> ALL (known));
	id bigint;
BEGIN
	IF format NOT IN ('csv', 'json') THEN
		RAISE invalid_parameter_value USING MESSAGE = format('unknown format "%s" of an object', format),
			HINT = 'Formats are csv, and json: an object a line.';
	END IF;
	IF unknown IS NOT NULL THEN
		RAISE invalid_parameter_value USING MESSAGE = format('unknown option of an object in %s: %s', format, unknown),
			HINT = 'Options are ' || array_to_string(known, ', ') || '.';
	END IF;
	INSERT INTO @schema@.loads AS l (server, path, format, options) VALUES (server, path, format, options) RETURNING l.load_id INTO id;
	PERFORM millrace.fetch_object(server, path, format('%I.deliver_objects', @schema_literal@), id::text);
	RETURN id;
END $$;
COMMENT ON FUNCTION @schema@.load_object(text, text, text, jsonb) IS
	'loads an object (bucket/key) of a server of wrapper millrace_http into raw, once this transaction has committed; returns its row of loads';
REVOKE EXECUTE ON FUNCTION @schema@.load_object(text, text, text, jsonb) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.deliver_objects(tags text[], paths text[], contents bytea[], sqlstates text[], errors text[]) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	load @schema@.loads;
	fault text;
	reason text;
BEGIN
	FOR i IN 1 .. cardinality(tags) LOOP
		SELECT l.* INTO load FROM @schema@.loads l WHERE l.load_id = tags[i]::bigint AND l.state = 'waiting' FOR UPDATE;
		CONTINUE WHEN NOT FOUND;
		fault := sqlstates[i];
		reason := errors[i];
		IF fault IS NULL THEN
			BEGIN
				PERFORM @schema@.load_rows(load, contents[i]);
			EXCEPTION WHEN OTHERS THEN
				GET STACKED DIAGNOSTICS fault = RETURNED_SQLSTATE, reason = MESSAGE_TEXT;
				IF @schema@.is_passing(fault) THEN
					RAISE;
				END IF;
			END;
		END IF;
		IF fault IS NOT NULL THEN
			UPDATE @schema@.loads l SET state = 'failed', sqlstate = fault, error = reason, finished_at = clock_timestamp()
			WHERE l.load_id = load.load_id;
		END IF;
	END LOOP;
END $$;
COMMENT ON FUNCTION @schema@.deliver_objects(text[], text[], bytea[], text[], text[]) IS
	'called by the HTTP worker: an object becomes rows of raw, or its reason stands in loads';
REVOKE EXECUTE ON FUNCTION @schema@.deliver_objects(text[], text[], bytea[], text[], text[]) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.is_passing(sqlstate text) RETURNS boolean
	LANGUAGE sql IMMUTABLE
	RETURN left(sqlstate, 2) IN ('08', '40', '53', '55', '57', '58', 'F0', 'XX');
COMMENT ON FUNCTION @schema@.is_passing(text) IS 'whether an error is the surroundings'' (locks, memory, disk, shutdown), and trying again its cure';

CREATE OR REPLACE FUNCTION @schema@.check_bad(load_id bigint, max_bad bigint) RETURNS void
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
	AS $$ BEGIN
		IF (SELECT count(*) FROM @schema@.load_failures f WHERE f.load_id = check_bad.load_id) > max_bad THEN
			RAISE program_limit_exceeded USING MESSAGE = format('more than %s rows of the object are bad; %s', max_bad,
				(SELECT format('line %s: %s', f.line, f.message) FROM @schema@.load_failures f WHERE f.load_id = check_bad.load_id ORDER BY f.line LIMIT 1));
		END IF;
	END $$;
COMMENT ON FUNCTION @schema@.check_bad(bigint, bigint) IS 'ends a load that has more bad rows than it may';

-- Rows in between two places, all at once; where one of them cannot be loaded, in halves, until it stands alone.
CREATE OR REPLACE FUNCTION @schema@.load_range(load_id bigint, statement text, first bigint, last bigint, max_bad bigint) RETURNS bigint
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
	AS $$
DECLARE
	n bigint;
	state text;
	reason text;
BEGIN
	IF first > last THEN
		RETURN 0;
	END IF;
	BEGIN
		EXECUTE statement USING first, last;
		GET DIAGNOSTICS n = ROW_COUNT;
		RETURN n;
	EXCEPTION WHEN OTHERS THEN
		GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, reason = MESSAGE_TEXT;
		IF @schema@.is_passing(state) THEN
			RAISE;
		END IF;
	END;
	IF first = last THEN
		INSERT INTO @schema@.load_failures (load_id, line, sqlstate, message, fields)
		SELECT load_range.load_id, s.line, state, reason, s.fields FROM pg_temp.millrace_load s WHERE s.n = first;
		PERFORM @schema@.check_bad(load_id, max_bad);
		RETURN 0;
	END IF;
	n := (first + last) / 2;
	RETURN @schema@.load_range(load_id, statement, first, n, max_bad) + @schema@.load_range(load_id, statement, n + 1, last, max_bad);
END $$;
COMMENT ON FUNCTION @schema@.load_range(bigint, text, bigint, bigint, bigint) IS 'inserts staged rows into raw; bad ones into load_failures; returns how many were new';
REVOKE EXECUTE ON FUNCTION @schema@.load_range(bigint, text, bigint, bigint, bigint) FROM PUBLIC;

CREATE OR REPLACE FUNCTION @schema@.load_rows(load @schema@.loads, content bytea) RETURNS void
	LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET client_min_messages = warning
	AS $$
DECLARE
	o jsonb := load.options;
	mapped jsonb := COALESCE(o -> 'columns', '{}');
	header text[];
	width int;
	max_bad bigint := COALESCE((o ->> 'max_bad')::bigint, 1000);
	columns text;
	vals text;
	statement text;
	total bigint;
	bad bigint;
	fresh bigint;
BEGIN
	CREATE TEMP TABLE IF NOT EXISTS millrace_load (n bigint, line bigint, fields text[]) ON COMMIT DROP;
	TRUNCATE pg_temp.millrace_load;
	IF load.format = 'csv' THEN
		INSERT INTO pg_temp.millrace_load (n, line, fields) SELECT row_number() OVER () - 1, r.line, r.fields
		FROM millrace.csv_rows('@schema@.raw', content, o - '{header,columns,max_bad}'::text[]) r;
		IF jsonb_typeof(o -> 'header') = 'array' THEN
			header := ARRAY(SELECT jsonb_array_elements_text(o -> 'header'));
		ELSIF COALESCE((o ->> 'header')::boolean, true) THEN
			DELETE FROM pg_temp.millrace_load l WHERE l.n = 0 RETURNING l.fields INTO header;
		END IF;
	ELSE
		INSERT INTO pg_temp.millrace_load (n, line, fields) SELECT row_number() OVER (ORDER BY t.line), t.line, ARRAY[t.text]
		FROM string_to_table(convert_from(content, 'UTF8'), E'\n') WITH ORDINALITY t(text, line) WHERE t.text !~ '^\s*$';
	END IF;
	CREATE UNIQUE INDEX IF NOT EXISTS millrace_load_n ON pg_temp.millrace_load (n);
	ANALYZE pg_temp.millrace_load;
	SELECT count(*) INTO total FROM pg_temp.millrace_load;

	WITH declared AS (
		SELECT a.attname, a.atttypid, format_type(a.atttypid, a.atttypmod) AS type, row_number() OVER (ORDER BY a.attnum) AS place,
			COALESCE((SELECT m.key FROM jsonb_each_text(mapped) m WHERE m.value = a.attname), a.attname) AS field
		FROM pg_attribute a
		WHERE a.attrelid = '@schema@.raw'::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
			AND a.attname NOT IN ('row_id', 'received_at', 'source', 'source_topic', 'source_partition', 'source_offset')
	), filled AS (
		SELECT d.*, CASE WHEN load.format = 'json' THEN NULL WHEN header IS NULL THEN d.place ELSE array_position(header, d.field) END AS n
		FROM declared d
	)
	SELECT string_agg(quote_ident(f.attname), ', ' ORDER BY f.place),
		string_agg(CASE WHEN load.format = 'csv' THEN format('(s.fields[%s])::%s', f.n, f.type)
			ELSE format('x.%I', f.attname) END, ', ' ORDER BY f.place),
		COALESCE(cardinality(header), max(f.place)::int)
	INTO columns, vals, width
	FROM filled f WHERE load.format = 'json' OR f.n IS NOT NULL;
	IF load.format = 'csv' AND header IS NOT NULL AND NOT EXISTS (SELECT FROM unnest(header) h
		WHERE COALESCE(mapped ->> h, h) = @schema@.option('key') #>> '{}') AND total > 0 THEN
		RAISE invalid_parameter_value USING MESSAGE = format('the object has no column for the key "%s"', @schema@.option('key') #>> '{}'),
			DETAIL = 'Its columns are ' || array_to_string(header, ', ') || '.';
	END IF;

	IF load.format = 'csv' THEN
		WITH wrong AS (DELETE FROM pg_temp.millrace_load l WHERE cardinality(l.fields) <> width RETURNING l.*)
		INSERT INTO @schema@.load_failures (load_id, line, sqlstate, message, fields)
		SELECT load.load_id, w.line, '22P04', format('the row has %s fields, not %s', cardinality(w.fields), width), w.fields FROM wrong w;
		PERFORM @schema@.check_bad(load.load_id, max_bad);
	END IF;
	statement := format('INSERT INTO @schema@.raw (%s, source, source_topic, source_offset) SELECT %s, %L, %L, s.line FROM pg_temp.millrace_load s%s '
		'WHERE s.n BETWEEN $1 AND $2 ORDER BY s.n ON CONFLICT (%I) DO NOTHING',
		columns, vals, load.server, load.path,
		CASE WHEN load.format = 'json' THEN format(', LATERAL (SELECT s.fields[1]::jsonb AS d) j, LATERAL jsonb_populate_record(NULL::@schema@.raw, j.d%s) x',
			(SELECT string_agg(format(' || jsonb_build_object(%L, j.d -> %L)', m.value, m.key), '') FROM jsonb_each_text(mapped) m)) ELSE '' END,
		@schema@.option('key') #>> '{}');
	SELECT @schema@.load_range(load.load_id, statement, min(l.n), max(l.n), max_bad) INTO fresh FROM pg_temp.millrace_load l;
	SELECT count(*) INTO bad FROM @schema@.load_failures f WHERE f.load_id = load.load_id;
	UPDATE @schema@.loads l SET state = 'done', rows_read = total, rows_loaded = fresh, rows_known = total - bad - fresh, rows_bad = bad,
		finished_at = clock_timestamp()
	WHERE l.load_id = load.load_id;
END $$;
COMMENT ON FUNCTION @schema@.load_rows(@schema@.loads, bytea) IS 'the bytes of an object as rows of raw';
REVOKE EXECUTE ON FUNCTION @schema@.load_rows(@schema@.loads, bytea) FROM PUBLIC;
