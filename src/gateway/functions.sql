-- gateway: routes and tokens

CREATE FUNCTION millrace.gateway_changed() RETURNS trigger
	LANGUAGE c
	AS 'MODULE_PATHNAME', 'millrace_gateway_changed';
COMMENT ON FUNCTION millrace.gateway_changed() IS 'wakes the gateway when a change of routes or tokens commits';
REVOKE EXECUTE ON FUNCTION millrace.gateway_changed() FROM PUBLIC;
CREATE TRIGGER gateway_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON millrace.routes
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.gateway_changed();
ALTER TABLE millrace.routes ENABLE ALWAYS TRIGGER gateway_changed;
COMMENT ON TRIGGER gateway_changed ON millrace.routes IS 'wakes the gateway';
CREATE TRIGGER gateway_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON millrace.api_tokens
	FOR EACH STATEMENT EXECUTE FUNCTION millrace.gateway_changed();
ALTER TABLE millrace.api_tokens ENABLE ALWAYS TRIGGER gateway_changed;
COMMENT ON TRIGGER gateway_changed ON millrace.api_tokens IS 'wakes the gateway';

-- What the caller gave, checked; the row is written as the extension's owner.
CREATE FUNCTION millrace.create_route(method text, path text, function regprocedure, options jsonb DEFAULT '{}') RETURNS bigint
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	given constant text[] := ARRAY['pipeline', 'prefix', 'poll_function', 'role', 'scope', 'body', 'open', 'read_only', 'max_body', 'timeout_ms',
		'concurrency', 'per_minute', 'interval_ms', 'summary', 'responses'];
	unknown text;
	names text[];
	wanted text[];
	id bigint;
	qualified text;
	poll text;
	bodies text[];
BEGIN
	SELECT k INTO unknown FROM jsonb_object_keys(options) k WHERE k <> ALL (given) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'unknown option "%" of a route', unknown
			USING ERRCODE = 'invalid_parameter_value', HINT = format('Options are %s.', array_to_string(given, ', '));
	END IF;
	IF create_route.function IS NULL OR NOT EXISTS (SELECT FROM pg_proc p WHERE p.oid = create_route.function AND p.prokind = 'f') THEN
		RAISE EXCEPTION 'a route calls a function, not %', coalesce(create_route.function::text, 'null')
			USING ERRCODE = 'wrong_object_type';
	END IF;
	-- {names} of the path are arguments
	SELECT array_agg(m[1]) INTO wanted FROM regexp_matches(create_route.path, '\{([^}]*)\}', 'g') m;
	SELECT array_agg(a.name) INTO names FROM pg_proc p, unnest(p.proargnames) WITH ORDINALITY a (name, n)
	 WHERE p.oid = create_route.function AND coalesce(p.proargmodes[a.n], 'i') IN ('i', 'b', 'v');
	SELECT w INTO unknown FROM unnest(wanted) w WHERE w <> ALL (coalesce(names, '{}')) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'path "%" names {%}, which is no argument of %', create_route.path, unknown, create_route.function
			USING ERRCODE = 'invalid_parameter_value';
	END IF;
	IF create_route.path ~ '\{[^}]*(\{|$)' OR create_route.path ~ '[^/]\{' OR create_route.path ~ '\}[^/]' OR create_route.path ~ '[[:space:]?#%]' OR
	   (SELECT count(DISTINCT w) <> count(*) FROM unnest(wanted) w) THEN
		RAISE EXCEPTION 'invalid path pattern "%"', create_route.path
			USING ERRCODE = 'invalid_parameter_value', HINT = 'Segments are fixed words or {argument}, each name once, as in /status/{question_id}.';
	END IF;
	IF options ? 'role' AND NOT EXISTS (SELECT FROM pg_roles r WHERE r.rolname = options ->> 'role') THEN
		RAISE EXCEPTION 'role "%" does not exist', options ->> 'role' USING ERRCODE = 'undefined_object';
	END IF;
	IF options ->> 'poll_function' IS NOT NULL THEN
		poll := to_regprocedure(options ->> 'poll_function');
		IF poll IS NULL THEN
			RAISE EXCEPTION 'function % does not exist', options ->> 'poll_function'
				USING ERRCODE = 'undefined_function', HINT = 'poll_function is written with its argument: s.f(jsonb).';
		END IF;
	END IF;
	-- with search_path as it is here, everything of users is written qualified
	qualified := create_route.function::text;
	bodies := CASE WHEN options ? 'body' THEN ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof(options -> 'body') WHEN 'array' THEN options -> 'body' ELSE jsonb_build_array(options -> 'body') END))
				   WHEN upper(method) IN ('POST', 'PUT', 'PATCH') THEN ARRAY['json', 'form'] ELSE '{}' END;
	INSERT INTO millrace.routes AS r (pipeline, prefix, method, path, function, poll_function, role, scope, body, open, read_only, max_body, timeout_ms,
			concurrency, per_minute, interval_ms, summary, responses)
	VALUES (options ->> 'pipeline', coalesce(options ->> 'prefix', ''), upper(method), path, qualified, poll, options ->> 'role',
			coalesce(options ->> 'scope', regexp_replace(options ->> 'pipeline', '[:*,[:space:]]', '_', 'g'), 'millrace'), bodies, coalesce((options ->> 'open')::boolean, false),
			coalesce((options ->> 'read_only')::boolean, upper(method) = 'GET'), (options ->> 'max_body')::bigint, (options ->> 'timeout_ms')::int,
			(options ->> 'concurrency')::int, (options ->> 'per_minute')::int, (options ->> 'interval_ms')::int, options ->> 'summary',
			coalesce(options -> 'responses', '{}'))
	RETURNING r.route_id INTO id;
	RETURN id;
EXCEPTION WHEN unique_violation THEN
	RAISE EXCEPTION 'there is a route % %', upper(method), coalesce(options ->> 'prefix', '') || path
		USING ERRCODE = 'duplicate_object', HINT = 'drop_route() removes it; another prefix keeps both.';
END
$$;
COMMENT ON FUNCTION millrace.create_route(text, text, regprocedure, jsonb) IS
	'answers requests by a function, which runs as the role of the request''s token; options: pipeline, prefix, poll_function, role, scope, body (json, form, multipart, raw), open, read_only, max_body, timeout_ms, concurrency, per_minute, interval_ms (a stream of events), summary, responses';
REVOKE EXECUTE ON FUNCTION millrace.create_route(text, text, regprocedure, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.create_route(text, text, regprocedure, jsonb) TO millrace_admin;

CREATE FUNCTION millrace.drop_route(method text, path text) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	DELETE FROM millrace.routes r WHERE r.method = upper(drop_route.method) AND r.prefix || r.path = drop_route.path AND NOT r.builtin;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no route % % of yours', upper(drop_route.method), drop_route.path
			USING ERRCODE = 'undefined_object', HINT = 'See millrace.routes: the path is written with its prefix, as a pattern; those of the extension stay.';
	END IF;
END
$$;
COMMENT ON FUNCTION millrace.drop_route(text, text) IS 'takes a route away: method, and path with its prefix as create_route() was given them';
REVOKE EXECUTE ON FUNCTION millrace.drop_route(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.drop_route(text, text) TO millrace_admin;

-- For templates.  Routes that users attached to the pipeline stay: a template's functions are those of its schema named http_….
CREATE FUNCTION millrace.set_pipeline_routes(pipeline text, prefix text, routes jsonb) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	wanted text;
	one jsonb;
BEGIN
	IF set_pipeline_routes.prefix <> '' AND set_pipeline_routes.prefix !~ '^(/[A-Za-z0-9._~-]+)+$' THEN
		RAISE EXCEPTION 'invalid prefix "%" of a pipeline''s paths', set_pipeline_routes.prefix
			USING ERRCODE = 'invalid_parameter_value', HINT = 'For example /photos, or an empty text for none.';
	END IF;
	SELECT coalesce(set_pipeline_routes.prefix, min(r.prefix), '/' || regexp_replace(set_pipeline_routes.pipeline, '[^A-Za-z0-9._~-]', '_', 'g')) INTO wanted
	  FROM millrace.routes r WHERE r.pipeline = set_pipeline_routes.pipeline;
	-- names of two pipelines may differ in what no path can have
	WHILE set_pipeline_routes.prefix IS NULL AND EXISTS (SELECT FROM millrace.routes r WHERE r.prefix = wanted AND r.pipeline <> set_pipeline_routes.pipeline) LOOP
		wanted := wanted || '_';
	END LOOP;
	DELETE FROM millrace.routes r WHERE r.pipeline = set_pipeline_routes.pipeline AND starts_with(r.function, format('%I.http_', set_pipeline_routes.pipeline));
	FOR one IN SELECT e FROM jsonb_array_elements(routes) e LOOP
		PERFORM millrace.create_route(one ->> 'method', one ->> 'path', format('%I.%s', set_pipeline_routes.pipeline, one ->> 'function')::regprocedure,
			one - '{method,path,function}'::text[] || jsonb_build_object('pipeline', set_pipeline_routes.pipeline, 'prefix', wanted)
				|| CASE WHEN one ? 'poll_function' THEN jsonb_build_object('poll_function', format('%I.%s', set_pipeline_routes.pipeline, one ->> 'poll_function')) ELSE '{}' END);
	END LOOP;
END
$$;
COMMENT ON FUNCTION millrace.set_pipeline_routes(text, text, jsonb) IS
	'the routes of a template, made anew: [{"method", "path", "function": "http_f(text)", options of create_route()}], functions without their schema; prefix null: as before, else /name';
REVOKE EXECUTE ON FUNCTION millrace.set_pipeline_routes(text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.set_pipeline_routes(text, text, jsonb) TO millrace_admin;

CREATE FUNCTION millrace.set_route_prefix(pipeline text, prefix text) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	UPDATE millrace.routes r SET prefix = set_route_prefix.prefix WHERE r.pipeline = set_route_prefix.pipeline AND NOT r.builtin;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'pipeline "%" has no routes', set_route_prefix.pipeline USING ERRCODE = 'undefined_object';
	END IF;
EXCEPTION WHEN unique_violation THEN
	RAISE EXCEPTION 'another pipeline has a route that pipeline "%" would have with prefix "%"', set_route_prefix.pipeline, set_route_prefix.prefix
		USING ERRCODE = 'duplicate_object';
END
$$;
COMMENT ON FUNCTION millrace.set_route_prefix(text, text) IS 'puts another prefix before the paths of a pipeline, or none: /a/b or an empty text';
REVOKE EXECUTE ON FUNCTION millrace.set_route_prefix(text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.set_route_prefix(text, text) TO millrace_admin;

CREATE FUNCTION millrace.random_token() RETURNS text
	LANGUAGE c VOLATILE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'millrace_random_token';
COMMENT ON FUNCTION millrace.random_token() IS '256 random bits as a token: mr_ and 43 letters';
REVOKE EXECUTE ON FUNCTION millrace.random_token() FROM PUBLIC;

-- Whether the caller may act as the role is asked of the session's user, whom SET ROLE and functions leave alone.
CREATE FUNCTION millrace.create_api_token(name text, role text, options jsonb DEFAULT '{}') RETURNS text
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
	token constant text := millrace.random_token();
	given constant text[] := ARRAY['scopes', 'per_minute', 'expires_at', 'expires_in'];
	unknown text;
	super boolean;
BEGIN
	SELECT k INTO unknown FROM jsonb_object_keys(options) k WHERE k <> ALL (given) LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION 'unknown option "%" of a token', unknown
			USING ERRCODE = 'invalid_parameter_value', HINT = format('Options are %s.', array_to_string(given, ', '));
	END IF;
	IF options ? 'scopes' AND jsonb_typeof(options -> 'scopes') NOT IN ('array', 'null') THEN
		RAISE EXCEPTION 'scopes of a token are an array' USING ERRCODE = 'invalid_parameter_value', HINT = 'For example ["images", "answers:read"].';
	END IF;
	SELECT r.rolsuper INTO super FROM pg_roles r WHERE r.rolname = create_api_token.role;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'role "%" does not exist', create_api_token.role USING ERRCODE = 'undefined_object';
	ELSIF super THEN
		RAISE EXCEPTION 'role "%" is a superuser, which requests never are', create_api_token.role
			USING ERRCODE = 'insufficient_privilege', HINT = 'Give the token a role that has just the rights it needs.';
	ELSIF NOT pg_has_role(session_user, create_api_token.role, 'MEMBER') THEN
		RAISE EXCEPTION 'must be a member of role "%" to give out a token for it', create_api_token.role USING ERRCODE = 'insufficient_privilege';
	END IF;
	INSERT INTO millrace.api_tokens (name, token_sha256, role, scopes, per_minute, expires_at)
	VALUES (create_api_token.name, sha256(convert_to(token, 'UTF8')), create_api_token.role,
			CASE WHEN jsonb_typeof(options -> 'scopes') = 'array' THEN ARRAY(SELECT jsonb_array_elements_text(options -> 'scopes')) END,
			(options ->> 'per_minute')::int,
			coalesce((options ->> 'expires_at')::timestamptz, now() + (options ->> 'expires_in')::interval));
	RETURN token;
EXCEPTION WHEN unique_violation THEN
	RAISE EXCEPTION 'there is a token "%"', create_api_token.name
		USING ERRCODE = 'duplicate_object', HINT = 'revoke_api_token() ends one; names of revoked tokens stay taken.';
END
$$;
COMMENT ON FUNCTION millrace.create_api_token(text, text, jsonb) IS
	'makes a token for requests that run as role; it is told once, and only its hash kept; options: scopes (["images", "answers:read"]), per_minute, expires_at, expires_in (an interval)';
REVOKE EXECUTE ON FUNCTION millrace.create_api_token(text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.create_api_token(text, text, jsonb) TO millrace_admin;

CREATE FUNCTION millrace.revoke_api_token(name text) RETURNS void
	LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
	UPDATE millrace.api_tokens t SET revoked_at = coalesce(t.revoked_at, now()) WHERE t.name = revoke_api_token.name;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'there is no token "%"', revoke_api_token.name USING ERRCODE = 'undefined_object';
	END IF;
END
$$;
COMMENT ON FUNCTION millrace.revoke_api_token(text) IS 'ends a token: requests that come after the commit are answered by 401';
REVOKE EXECUTE ON FUNCTION millrace.revoke_api_token(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION millrace.revoke_api_token(text) TO millrace_admin;

-- For SECURITY DEFINER functions: in the gateway session_user is millrace_gateway, whoever asks.
CREATE FUNCTION millrace.request_role() RETURNS name
	LANGUAGE c STABLE PARALLEL RESTRICTED
	AS 'MODULE_PATHNAME', 'millrace_request_role';
COMMENT ON FUNCTION millrace.request_role() IS 'role of the token that a request came with; outside of requests session_user';

-- Answers that say more than a value.  SQL functions, so that they are inlined.

CREATE FUNCTION millrace.respond(status int, body jsonb, headers jsonb DEFAULT NULL) RETURNS millrace.http_response
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT ROW(status, 'application/json', pg_catalog.convert_to(body::text, 'UTF8'), headers, NULL)::millrace.http_response $$;
COMMENT ON FUNCTION millrace.respond(int, jsonb, jsonb) IS 'an answer of a route''s function: status, a JSON body, headers {"Location": "/status/7"}';

CREATE FUNCTION millrace.respond_bytes(status int, content_type text, body bytea, headers jsonb DEFAULT NULL) RETURNS millrace.http_response
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT ROW(status, content_type, body, headers, NULL)::millrace.http_response $$;
COMMENT ON FUNCTION millrace.respond_bytes(int, text, bytea, jsonb) IS 'an answer of a route''s function: status, media type and bytes';

CREATE FUNCTION millrace.respond_later(status int, body jsonb, poll jsonb, within_ms int DEFAULT 10000, every_ms int DEFAULT 50, headers jsonb DEFAULT NULL)
	RETURNS millrace.http_response
	LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
	SELECT ROW(status, 'application/json', pg_catalog.convert_to(body::text, 'UTF8'), headers,
			   pg_catalog.jsonb_build_object('poll', poll, 'within_ms', within_ms, 'every_ms', every_ms))::millrace.http_response
$$;
COMMENT ON FUNCTION millrace.respond_later(int, jsonb, jsonb, int, int, jsonb) IS
	'no answer yet: the route''s poll_function is called with poll every_ms until it answers, each time in a transaction of its own, with none open in between; when within_ms since the request are over, status and body are sent';

-- For the supervisor, which is a superuser.  What ALTER DATABASE says now stands in the catalogue, not in settings of its session.
CREATE FUNCTION millrace.gateway_settings(OUT listen text, OUT executors int, OUT config bigint) RETURNS record
	LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	given jsonb;
	told jsonb;
BEGIN
	SELECT coalesce(jsonb_object_agg(split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)), '{}') INTO given
	  FROM pg_db_role_setting s, unnest(s.setconfig) c
	 WHERE s.setdatabase = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) AND s.setrole = 0 AND starts_with(c, 'millrace.http_');
	listen := coalesce(given ->> 'millrace.http_listen', current_setting('millrace.http_listen', true), '');
	executors := 0;
	config := 0;
	IF listen <> '' THEN
		SELECT jsonb_object_agg(s.name, coalesce(given ->> s.name,
					CASE WHEN s.source NOT IN ('database', 'database user', 'user') THEN s.setting
						 ELSE coalesce((SELECT f.setting FROM pg_file_settings f WHERE f.name = s.name AND f.error IS NULL ORDER BY f.seqno DESC LIMIT 1), s.boot_val) END))
		  INTO told FROM pg_settings s WHERE starts_with(s.name, 'millrace.http_');
		listen := told ->> 'millrace.http_listen';
		executors := (told ->> 'millrace.http_executors')::int;
		config := hashtextextended(told::text, 0);
	END IF;
END
$$;
COMMENT ON FUNCTION millrace.gateway_settings() IS 'addresses the gateway of this database should listen on, its executors, and a number that changes with any of its settings';
REVOKE EXECUTE ON FUNCTION millrace.gateway_settings() FROM PUBLIC;
