-- gateway: which request runs which function, and who may ask
--
-- Written by functions only, as the extension's owner.  The I/O worker reads both tables into memory whenever they change.

CREATE TABLE millrace.routes (
	route_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	pipeline      text,
	prefix        text NOT NULL DEFAULT '' CHECK (prefix = '' OR prefix ~ '^(/[A-Za-z0-9._~-]+)+$'),
	method        text NOT NULL CHECK (method IN ('GET', 'POST', 'PUT', 'PATCH', 'DELETE')),
	path          text NOT NULL CHECK (path ~ '^/' AND octet_length(path) <= 1000),
	function      text NOT NULL,
	poll_function text,
	role          text,
	scope         text NOT NULL DEFAULT 'millrace' CHECK (scope ~ '^[^:*,[:space:]]+$'),
	body          text[] NOT NULL DEFAULT '{}' CHECK (body <@ '{json,form,multipart,raw}'),
	open          boolean NOT NULL DEFAULT false,
	read_only     boolean NOT NULL DEFAULT false,
	max_body      bigint CHECK (max_body BETWEEN 0 AND 1073741824),
	timeout_ms    int CHECK (timeout_ms BETWEEN 1 AND 3600000),
	concurrency   int CHECK (concurrency BETWEEN 1 AND 1000),
	per_minute    int CHECK (per_minute > 0),
	interval_ms   int CHECK (interval_ms BETWEEN 100 AND 3600000),
	summary       text,
	responses     jsonb NOT NULL DEFAULT '{}',
	builtin       boolean NOT NULL DEFAULT false,
	created_by    text NOT NULL DEFAULT session_user,
	created_at    timestamptz NOT NULL DEFAULT now(),
	CHECK (read_only OR method <> 'GET'),
	CHECK (interval_ms IS NULL OR method = 'GET'),
	CHECK (pipeline IS NOT NULL OR prefix = '')
);
-- {names} of a path are all alike: two patterns that differ in them alone would catch the same requests
CREATE UNIQUE INDEX routes_pattern ON millrace.routes (method, (prefix || pg_catalog.regexp_replace(path, '\{[^}]*\}', '{}', 'g')));
COMMENT ON TABLE millrace.routes IS 'requests that the gateway answers: method and path, and the function that is called';
COMMENT ON COLUMN millrace.routes.route_id IS 'number of the route, for metrics and logs';
COMMENT ON COLUMN millrace.routes.pipeline IS 'pipeline it belongs to; a listener of that pipeline alone (pipeline=address) serves it without the prefix';
COMMENT ON COLUMN millrace.routes.prefix IS 'stands before the path, but for a listener of the pipeline alone';
COMMENT ON COLUMN millrace.routes.method IS 'GET (HEAD too), POST, PUT, PATCH or DELETE';
COMMENT ON COLUMN millrace.routes.path IS 'path pattern: {name} is one segment, and the function''s argument of that name';
COMMENT ON COLUMN millrace.routes.function IS 'function that is called, as regprocedure: parameters, fields and members of a JSON body are arguments by name; argument body takes the whole body';
COMMENT ON COLUMN millrace.routes.poll_function IS 'function (jsonb) that is called again while an answer is not there yet, see millrace.respond_later()';
COMMENT ON COLUMN millrace.routes.role IS 'only tokens of this role or of its members; null: any token that the function''s own rights let in';
COMMENT ON COLUMN millrace.routes.scope IS 'what a token''s scopes are compared with: the pipeline''s name (_ for what it may not have: spaces : * ,), or millrace';
COMMENT ON COLUMN millrace.routes.body IS 'bodies that are taken: json, form, multipart, raw; others are answered by 415';
COMMENT ON COLUMN millrace.routes.open IS 'answers without a token, then run as millrace_gateway, or the anonymous role if there is one';
COMMENT ON COLUMN millrace.routes.read_only IS 'runs in a read-only transaction; always with GET';
COMMENT ON COLUMN millrace.routes.max_body IS 'bytes of a body at most; null: millrace.http_max_body';
COMMENT ON COLUMN millrace.routes.timeout_ms IS 'the function is cancelled after so long; null: millrace.http_timeout';
COMMENT ON COLUMN millrace.routes.concurrency IS 'of this route at once at most, others wait; null: any number of the executors';
COMMENT ON COLUMN millrace.routes.per_minute IS 'requests a minute and token at most; null: what the token says';
COMMENT ON COLUMN millrace.routes.interval_ms IS 'a stream of events (text/event-stream): the function is called so often, and its result sent when it changed';
COMMENT ON COLUMN millrace.routes.summary IS 'one line for the documentation; null: the function''s comment';
COMMENT ON COLUMN millrace.routes.responses IS 'OpenAPI responses by status, for functions whose type does not say it: {"201": {"description": …, "schema": {…}}}, or with "content" as OpenAPI writes it; "body": schema of a JSON body';
COMMENT ON COLUMN millrace.routes.builtin IS 'made by the extension';
COMMENT ON COLUMN millrace.routes.created_by IS 'who called create_route()';
COMMENT ON COLUMN millrace.routes.created_at IS 'when create_route() was called';
SELECT pg_catalog.pg_extension_config_dump('millrace.routes', 'WHERE NOT builtin');
SELECT pg_catalog.pg_extension_config_dump('millrace.routes_route_id_seq', '');
GRANT SELECT ON millrace.routes TO millrace_admin, millrace_monitor;

CREATE TABLE millrace.api_tokens (
	token_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	name         text NOT NULL UNIQUE CHECK (octet_length(name) BETWEEN 1 AND 200),
	token_sha256 bytea NOT NULL UNIQUE CHECK (octet_length(token_sha256) = 32),
	role         text NOT NULL,
	scopes       text[],
	per_minute   int CHECK (per_minute > 0),
	expires_at   timestamptz,
	revoked_at   timestamptz,
	created_by   text NOT NULL DEFAULT session_user,
	created_at   timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE millrace.api_tokens IS 'who may ask the gateway: tokens, of which only a hash is kept, and the role that each stands for';
COMMENT ON COLUMN millrace.api_tokens.token_id IS 'number of the token';
COMMENT ON COLUMN millrace.api_tokens.name IS 'what it is for, for people';
COMMENT ON COLUMN millrace.api_tokens.token_sha256 IS 'SHA-256 of the token, which has 256 random bits';
COMMENT ON COLUMN millrace.api_tokens.role IS 'requests run as this role; a role that is gone or a superuser is answered by 401';
COMMENT ON COLUMN millrace.api_tokens.scopes IS 'routes it is good for: a scope of millrace.routes, with :read only those that change nothing, * any; null: all';
COMMENT ON COLUMN millrace.api_tokens.per_minute IS 'requests a minute at most, 429 beyond; null: any number';
COMMENT ON COLUMN millrace.api_tokens.expires_at IS 'not good from then on';
COMMENT ON COLUMN millrace.api_tokens.revoked_at IS 'when revoke_api_token() was called';
COMMENT ON COLUMN millrace.api_tokens.created_by IS 'who called create_api_token()';
COMMENT ON COLUMN millrace.api_tokens.created_at IS 'when create_api_token() was called';
SELECT pg_catalog.pg_extension_config_dump('millrace.api_tokens', '');
SELECT pg_catalog.pg_extension_config_dump('millrace.api_tokens_token_id_seq', '');
GRANT SELECT (token_id, name, role, scopes, per_minute, expires_at, revoked_at, created_by, created_at) ON millrace.api_tokens TO millrace_admin, millrace_monitor;
