-- gateway: OpenAPI 3.1 made from the routes, and whether all is well
--
-- The document is for everybody who can reach the address: paths, names and types of arguments, summaries.

CREATE FUNCTION millrace.json_schema(type oid, result boolean DEFAULT false, depth int DEFAULT 0) RETURNS jsonb
	LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	t pg_type;
	element oid;
	properties jsonb;
BEGIN
	SELECT * INTO t FROM pg_type p WHERE p.oid = json_schema.type;
	IF t.typtype = 'd' THEN
		RETURN millrace.json_schema(t.typbasetype, result, depth);
	ELSIF t.typtype = 'e' THEN
		RETURN jsonb_build_object('type', 'string', 'enum', (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid));
	ELSIF t.typsubscript = 'array_subscript_handler'::regproc AND t.typelem <> 0 THEN
		-- an array that comes back may have nulls and further dimensions
		RETURN jsonb_build_object('type', 'array', 'items', CASE WHEN result THEN jsonb_build_object('anyOf',
			jsonb_build_array(millrace.json_schema(t.typelem, result, depth)) || '[{"type": "null"}, {"type": "array"}]') ELSE millrace.json_schema(t.typelem, result, depth) END);
	ELSIF t.typtype = 'c' AND depth < 5 THEN
		SELECT jsonb_object_agg(a.attname, jsonb_build_object('anyOf', jsonb_build_array(millrace.json_schema(a.atttypid, result, depth + 1), '{"type": "null"}'::jsonb)))
		  INTO properties FROM pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped;
		RETURN jsonb_build_object('type', 'object', 'properties', coalesce(properties, '{}'));
	END IF;
	RETURN CASE t.oid
		WHEN 'bool'::regtype THEN '{"type": "boolean"}'
		WHEN 'int2'::regtype THEN '{"type": "integer", "minimum": -32768, "maximum": 32767}'
		WHEN 'int4'::regtype THEN '{"type": "integer", "format": "int32", "minimum": -2147483648, "maximum": 2147483647}'
		WHEN 'int8'::regtype THEN '{"type": "integer", "format": "int64"}'
		WHEN 'float4'::regtype THEN '{"type": "number", "format": "float"}'
		WHEN 'float8'::regtype THEN '{"type": "number", "format": "double"}'
		WHEN 'numeric'::regtype THEN '{"type": "number"}'
		WHEN 'uuid'::regtype THEN '{"type": "string", "format": "uuid"}'
		WHEN 'date'::regtype THEN '{"type": "string", "format": "date"}'
		WHEN 'timestamptz'::regtype THEN '{"type": "string", "format": "date-time"}'
		WHEN 'bytea'::regtype THEN '{"type": "string", "contentMediaType": "application/octet-stream"}'
		WHEN 'json'::regtype THEN '{}'
		WHEN 'jsonb'::regtype THEN '{}'
		ELSE '{"type": "string"}' END::jsonb;
END
$$;
COMMENT ON FUNCTION millrace.json_schema(oid, boolean, int) IS 'the JSON Schema of a type''s values, as requests give them, or as results have them';

-- Arguments that a caller may give: those a file tells of itself (file_name, file_type beside bytea file) are left to it.
CREATE FUNCTION millrace.route_arguments(function regprocedure, OUT name text, OUT type oid, OUT required boolean) RETURNS SETOF record
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
	WITH given AS (
		SELECT a.name, t.type, row_number() OVER (ORDER BY a.n) <= p.pronargs - p.pronargdefaults AS required, a.n
		  FROM pg_proc p,
			   LATERAL unnest(p.proargnames) WITH ORDINALITY a (name, n),
			   LATERAL (SELECT coalesce(p.proallargtypes[a.n], p.proargtypes[a.n - 1])) t (type)
		 WHERE p.oid = route_arguments.function AND coalesce(p.proargmodes[a.n], 'i') IN ('i', 'b', 'v'))
	SELECT g.name, g.type, g.required FROM given g
	 WHERE NOT EXISTS (SELECT FROM given f WHERE f.type = 'bytea'::regtype AND g.name IN (f.name || '_name', f.name || '_type'))
	 ORDER BY g.n
$$;
COMMENT ON FUNCTION millrace.route_arguments(regprocedure) IS 'arguments of a route''s function that a request gives by name';
REVOKE EXECUTE ON FUNCTION millrace.route_arguments(regprocedure) FROM PUBLIC;

-- One operation of the document.
CREATE FUNCTION millrace.openapi_operation(route millrace.routes) RETURNS jsonb
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	function constant oid := to_regprocedure(route.function);
	result pg_type;
	is_set boolean;
	schema jsonb;
	media text;
	parameters jsonb;
	content jsonb := '{}';
	properties jsonb;
	needed jsonb;
	whole oid;
	answers jsonb;
	one record;
	columns jsonb;
	element jsonb;
BEGIN
	IF function IS NULL THEN
		RETURN NULL;
	END IF;
	SELECT t.* INTO result FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype WHERE p.oid = function;
	SELECT p.proretset INTO is_set FROM pg_proc p WHERE p.oid = function;

	-- what stands in the path, and without a body in the query
	SELECT jsonb_agg(jsonb_build_object('name', a.name, 'in', CASE WHEN p.inside THEN 'path' ELSE 'query' END, 'required', p.inside OR a.required,
										'schema', millrace.json_schema(a.type)) ORDER BY p.inside DESC)
	  INTO parameters
	  FROM millrace.route_arguments(function) a, LATERAL (SELECT route.path LIKE '%{' || replace(replace(a.name, '\', '\\'), '_', '\_') || '}%') p (inside)
	 WHERE p.inside OR route.body = '{}';
	IF route.body <> '{}' THEN
		SELECT jsonb_object_agg(a.name, millrace.json_schema(a.type)), coalesce(jsonb_agg(a.name) FILTER (WHERE a.required), '[]')
		  INTO properties, needed
		  FROM millrace.route_arguments(function) a WHERE strpos(route.path, '{' || a.name || '}') = 0 AND a.name <> 'body';
		SELECT a.type INTO whole FROM millrace.route_arguments(function) a WHERE a.name = 'body';
		schema := jsonb_build_object('type', 'object', 'properties', coalesce(properties, '{}'), 'required', coalesce(needed, '[]'), 'additionalProperties', false);
		IF 'json' = ANY (route.body) THEN
			content := content || jsonb_build_object('application/json', jsonb_build_object('schema',
				coalesce(route.responses -> 'body', CASE WHEN whole IS NULL THEN schema ELSE '{}' END)));
		END IF;
		IF 'form' = ANY (route.body) AND whole IS NULL THEN
			content := content || jsonb_build_object('application/x-www-form-urlencoded', jsonb_build_object('schema', schema));
		END IF;
		IF 'multipart' = ANY (route.body) THEN
			content := content || jsonb_build_object('multipart/form-data', jsonb_build_object('schema', schema));
		END IF;
		IF 'raw' = ANY (route.body) THEN
			content := content || '{"application/octet-stream": {"schema": {}}}';
		END IF;
	END IF;

	-- what comes back
	media := CASE WHEN route.interval_ms IS NOT NULL THEN 'text/event-stream'
				  WHEN result.typtype = 'd' AND strpos(result.typname, '/') > 0 THEN result.typname::text
				  WHEN result.oid = 'text'::regtype THEN 'text/plain'
				  WHEN result.oid = 'bytea'::regtype THEN 'application/octet-stream'
				  ELSE 'application/json' END;
	-- a record's columns are arguments of the function
	SELECT jsonb_build_object('type', 'object', 'properties', jsonb_object_agg(a.name,
			jsonb_build_object('anyOf', jsonb_build_array(millrace.json_schema(p.proallargtypes[a.n], true), '{"type": "null"}'::jsonb))))
	  INTO columns FROM pg_proc p, unnest(p.proargnames) WITH ORDINALITY a (name, n)
	 WHERE p.oid = function AND result.oid = 'record'::regtype AND p.proargmodes[a.n] IN ('o', 'b', 't') HAVING count(*) > 0;
	element := coalesce(columns, CASE WHEN result.oid = 'record'::regtype THEN '{}'::jsonb ELSE millrace.json_schema(result.oid, true) END);
	schema := CASE WHEN media = 'application/json' THEN CASE WHEN is_set THEN jsonb_build_object('type', 'array', 'items', element) ELSE element END
				   WHEN media = 'application/octet-stream' THEN '{}' ELSE '{"type": "string"}' END;
	IF result.oid = 'millrace.http_response'::regtype OR route.responses - 'body' <> '{}' THEN
		answers := '{}';
		FOR one IN SELECT r.key, r.value FROM jsonb_each(route.responses) r WHERE r.key ~ '^[1-5][0-9X]{2}$' LOOP
			answers := answers || jsonb_build_object(one.key,
				jsonb_build_object('description', coalesce(one.value ->> 'description', 'status ' || one.key))
				|| CASE WHEN one.value ? 'content' THEN jsonb_build_object('content', one.value -> 'content')
						WHEN one.value ? 'schema' OR one.value ? 'content_type'
						THEN jsonb_build_object('content', jsonb_build_object(coalesce(one.value ->> 'content_type', media),
							 jsonb_build_object('schema', coalesce(one.value -> 'schema', '{}')))) ELSE '{}' END);
		END LOOP;
	ELSIF result.oid = 'void'::regtype THEN
		answers := '{"204": {"description": "done"}}';
	ELSE
		answers := jsonb_build_object('200', jsonb_build_object('description', 'the result', 'content', jsonb_build_object(media, jsonb_build_object('schema', schema))));
	END IF;
	RETURN jsonb_strip_nulls(jsonb_build_object(
		'operationId', lower(route.method) || regexp_replace(route.prefix || route.path, '[^A-Za-z0-9]+', '_', 'g'),
		'tags', jsonb_build_array(coalesce(route.pipeline, 'millrace')),
		'summary', coalesce(route.summary, obj_description(function, 'pg_proc')),
		'parameters', parameters,
		'requestBody', CASE WHEN content <> '{}' THEN jsonb_build_object('required', true, 'content', content) END))
		|| jsonb_build_object('responses', answers || '{"default": {"$ref": "#/components/responses/error"}}',
							  'security', CASE WHEN route.open THEN '[{}, {"bearer": []}]' ELSE '[{"bearer": []}, {"basic": []}]' END::jsonb);
END
$$;
COMMENT ON FUNCTION millrace.openapi_operation(millrace.routes) IS 'the OpenAPI operation of a route; null if its function is gone';
REVOKE EXECUTE ON FUNCTION millrace.openapi_operation(millrace.routes) FROM PUBLIC;

CREATE FUNCTION millrace.openapi(pipeline text DEFAULT NULL) RETURNS jsonb
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
	SELECT jsonb_build_object(
		'openapi', '3.1.0',
		'info', jsonb_build_object('title', coalesce(openapi.pipeline, current_database()), 'version', millrace.version(),
			'description', 'Each path is a row of millrace.routes: a function of the database, run as the role of the request''s token.'),
		'paths', coalesce((SELECT jsonb_object_agg(x.path, x.operations)
			FROM (SELECT CASE WHEN openapi.pipeline IS NULL THEN r.prefix ELSE '' END || r.path AS path, jsonb_object_agg(lower(r.method), o.operation) AS operations
					FROM millrace.routes r, LATERAL (SELECT millrace.openapi_operation(r)) o (operation)
				   WHERE (openapi.pipeline IS NULL OR r.pipeline = openapi.pipeline OR r.builtin AND NOT EXISTS
							(SELECT FROM millrace.routes s WHERE s.pipeline = openapi.pipeline AND (s.method, s.path) = (r.method, r.path)))
					 AND o.operation IS NOT NULL
				   GROUP BY 1) x), '{}'),
		'components', '{
			"securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}, "basic": {"type": "http", "scheme": "basic"}},
			"schemas": {"error": {"type": "object", "required": ["code", "message"],
				"properties": {"code": {"type": "string"}, "message": {"type": "string"}, "details": {"type": ["string", "null"]}, "hint": {"type": ["string", "null"]}}}},
			"responses": {"error": {"description": "why not: an SQLSTATE or a code of the gateway, in words",
				"content": {"application/json": {"schema": {"$ref": "#/components/schemas/error"}}}}}}'::jsonb)
$$;
COMMENT ON FUNCTION millrace.openapi(text) IS 'the routes as an OpenAPI 3.1 document: all of them, or as a listener of one pipeline serves them';

CREATE FUNCTION millrace.http_openapi() RETURNS jsonb
	LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT millrace.openapi(nullif(current_setting('request.headers', true), '')::jsonb ->> ':pipeline') $$;
COMMENT ON FUNCTION millrace.http_openapi() IS 'OpenAPI 3.1 document of this address';

-- For load balancers, without a token: whether, and how many reasons.  Names only for those who may see states.
CREATE FUNCTION millrace.http_health() RETURNS millrace.http_response
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	told constant jsonb := millrace.health();
BEGIN
	RETURN millrace.respond(CASE WHEN told ->> 'status' = 'unhealthy' THEN 503 ELSE 200 END,
		told || jsonb_build_object('version', millrace.version(), 'database', current_database()),
		CASE WHEN told ->> 'status' = 'unhealthy' THEN '{"Retry-After": "5"}'::jsonb END);
END
$$;
COMMENT ON FUNCTION millrace.http_health() IS 'whether all is well: 200, or 503 and why';

-- Open to everybody, and not for nothing: one at a time.
INSERT INTO millrace.routes (method, path, function, open, read_only, builtin, concurrency, responses) VALUES
	('GET', '/openapi.json', 'millrace.http_openapi()', true, true, true, 1, '{}'),
	('GET', '/health', 'millrace.http_health()', true, true, true, 1,
	 '{"200": {"description": "all is well, or well enough", "schema": {"type": "object", "required": ["status", "reasons"]}},
	   "503": {"description": "it is not", "schema": {"type": "object", "required": ["status", "reasons"]}}}');
