-- Pipeline "datasets", where files come from: a directory of the server, and objects of a store.
--
-- Both put files into the table files.  A directory is read with the caller's rights, who must be a member of
-- pg_read_server_files.  Objects are fetched by the HTTP worker for the caller's role; a row of fetches says how far that is.

CREATE TABLE IF NOT EXISTS @schema@.fetches (
	dataset text NOT NULL,
	path text NOT NULL,
	object text NOT NULL,
	server text NOT NULL,
	manifest boolean NOT NULL DEFAULT false,
	state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'done', 'failed')),
	sqlstate text,
	message text,
	asked_at timestamptz NOT NULL DEFAULT now(),
	PRIMARY KEY (dataset, path)
);
COMMENT ON TABLE @schema@.fetches IS 'objects that import_objects() asked for: when none is waiting any more, call import_files()';
COMMENT ON COLUMN @schema@.fetches.path IS 'that it gets in files';
COMMENT ON COLUMN @schema@.fetches.object IS 'bucket/key';
COMMENT ON COLUMN @schema@.fetches.manifest IS 'a list of keys, each of which is fetched then';

CREATE OR REPLACE FUNCTION @schema@.import_directory(dataset text, directory text, format text DEFAULT 'auto', options jsonb DEFAULT '{}') RETURNS jsonb LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp SET client_min_messages = warning AS $$
DECLARE
	counts jsonb;
	unread bigint;
BEGIN
	DROP TABLE IF EXISTS pg_temp.import_listing;
	CREATE TEMP TABLE import_listing ON COMMIT DROP AS SELECT d.path, d.problem FROM millrace.directory_files(directory) d
		WHERE d.path ~* '\.(jpe?g|jpe|jfif|png|bmp|gif|webp|tiff?|avif|heic|txt|xml|json|ya?ml|names)$' OR d.problem <> 'no_file';
	INSERT INTO @schema@.files (dataset, path, content)
		SELECT import_directory.dataset, l.path, millrace.directory_read(directory, l.path) FROM pg_temp.import_listing l WHERE l.problem IS NULL
		ON CONFLICT ON CONSTRAINT files_pkey DO UPDATE SET content = excluded.content;
	counts := @schema@.import_files(dataset, format, options);
	DELETE FROM @schema@.problems p USING pg_temp.import_listing l WHERE p.dataset = import_directory.dataset AND p.path = l.path AND l.problem IS NOT NULL;
	INSERT INTO @schema@.problems (dataset, path, kind, detail, since)
		SELECT import_directory.dataset, l.path, l.problem, 'not read: ' || directory, (counts ->> 'version')::int FROM pg_temp.import_listing l WHERE l.problem IS NOT NULL;
	GET DIAGNOSTICS unread = ROW_COUNT;
	RETURN jsonb_set(counts, '{problems}', to_jsonb((counts ->> 'problems')::bigint + unread));
END $$;
COMMENT ON FUNCTION @schema@.import_directory(text, text, text, jsonb) IS
	'import_files() of a directory of the server, for members of pg_read_server_files; symbolic links are not followed';

-- Asks for objects: rows of fetches, and a request each.
CREATE OR REPLACE FUNCTION @schema@.request_files(dataset text, paths text[], objects text[], server text, manifest boolean DEFAULT false) RETURNS bigint LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	INSERT INTO @schema@.fetches (dataset, path, object, server, manifest)
		SELECT DISTINCT ON (u.path) request_files.dataset, u.path, u.object, request_files.server, request_files.manifest FROM unnest(paths, objects) u (path, object)
		ON CONFLICT ON CONSTRAINT fetches_pkey DO UPDATE SET object = excluded.object, server = excluded.server, manifest = excluded.manifest,
			state = 'waiting', sqlstate = NULL, message = NULL, asked_at = now();
	RETURN (SELECT count(millrace.fetch_object(request_files.server, u.object, format('%I.deliver_files', @schema_literal@), request_files.dataset || ':' || u.path))
		FROM (SELECT DISTINCT ON (u.path) u.path, u.object FROM unnest(paths, objects) u (path, object)) u);
END $$;
COMMENT ON FUNCTION @schema@.request_files(text, text[], text[], text, boolean) IS 'asks the HTTP worker for files of a data set; returns how many';

-- Answers are matched by tag and path: one that was overtaken changes nothing.
CREATE OR REPLACE FUNCTION @schema@.deliver_files(tags text[], paths text[], contents bytea[], sqlstates text[], errors text[]) RETURNS void LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	list record;
BEGIN
	WITH latest AS (
		SELECT DISTINCT ON (f.dataset, f.path) f.dataset, f.path, f.manifest, d.n, d.sqlstate, d.error
		FROM unnest(tags, paths, sqlstates, errors) WITH ORDINALITY d (tag, object, sqlstate, error, n)
		JOIN @schema@.fetches f ON f.dataset = split_part(d.tag, ':', 1) AND f.path = substr(d.tag, strpos(d.tag, ':') + 1) AND f.object IN (d.object, 's3://' || d.object)
		ORDER BY f.dataset, f.path, d.n DESC
	), arrived AS (
		INSERT INTO @schema@.files (dataset, path, content) SELECT l.dataset, l.path, contents[l.n] FROM latest l WHERE l.sqlstate IS NULL AND NOT l.manifest
		ON CONFLICT ON CONSTRAINT files_pkey DO UPDATE SET content = excluded.content
	)
	UPDATE @schema@.fetches f SET state = CASE WHEN l.sqlstate IS NULL THEN 'done' ELSE 'failed' END, sqlstate = l.sqlstate, message = l.error
		FROM latest l WHERE f.dataset = l.dataset AND f.path = l.path;
	-- A list brings its files: keys within its own folder.
	FOR list IN
		SELECT f.dataset, f.server, array_agg(r.image) AS keys, array_agg(regexp_replace(f.object, '[^/]*$', '') || r.image) AS objects
		FROM unnest(tags, sqlstates) WITH ORDINALITY d (tag, sqlstate, n)
		JOIN @schema@.fetches f ON f.manifest AND f.dataset = split_part(d.tag, ':', 1) AND f.path = substr(d.tag, strpos(d.tag, ':') + 1),
		LATERAL millrace.parse_labels('list', contents[d.n]) r
		WHERE d.sqlstate IS NULL AND r.problem IS NULL AND @schema@.plain_path(r.image) IS NOT NULL GROUP BY 1, 2
	LOOP
		PERFORM @schema@.request_files(list.dataset, list.keys, list.objects, list.server);
	END LOOP;
END $$;
COMMENT ON FUNCTION @schema@.deliver_files(text[], text[], bytea[], text[], text[]) IS
	'called by the HTTP worker: objects become rows of files, what could not be fetched stands in fetches';

CREATE OR REPLACE FUNCTION @schema@.import_objects(dataset text, prefix text, keys text[] DEFAULT NULL, manifest text DEFAULT NULL, server text DEFAULT NULL) RETURNS bigint LANGUAGE plpgsql
	SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	store text := coalesce(server, (SELECT s.server FROM @schema@.settings s));
	folder text := regexp_replace(prefix, '/*$', '/');
BEGIN
	IF store IS NULL THEN
		RAISE object_not_in_prerequisite_state USING MESSAGE = format('pipeline "%s" has no object server', @schema_literal@),
			HINT = format('UPDATE %I.settings SET server = …, or name one here.', @schema_literal@);
	ELSIF (keys IS NULL) = (manifest IS NULL) THEN
		RAISE invalid_parameter_value USING MESSAGE = 'either keys or a manifest must say which objects to import', HINT = 'A manifest is an object below the prefix with a key a line.';
	ELSIF dataset !~ '^[^:/[:cntrl:]]{1,100}$' THEN
		RAISE invalid_parameter_value USING MESSAGE = format('"%s" cannot be the name of a data set', dataset);
	ELSIF EXISTS (SELECT FROM unnest(keys) k WHERE @schema@.plain_path(k) IS NULL) THEN
		RAISE invalid_parameter_value USING MESSAGE = format('key "%s" is no path', (SELECT k FROM unnest(keys) k WHERE @schema@.plain_path(k) IS NULL LIMIT 1));
	END IF;
	RETURN @schema@.request_files(dataset, coalesce(keys, ARRAY[manifest]), ARRAY(SELECT folder || k FROM unnest(coalesce(keys, ARRAY[manifest])) k), store, manifest IS NOT NULL);
END $$;
COMMENT ON FUNCTION @schema@.import_objects(text, text, text[], text, text) IS
	'fetches the objects bucket/prefix/key into files: keys, or those that the object manifest lists, one a line; returns how many it asked for';
