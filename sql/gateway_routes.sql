-- Routes and tokens: making and dropping them, what is refused, and who may do and see what.
\set VERBOSITY terse
SET client_min_messages = warning;
CREATE ROLE gw_admin; GRANT millrace_admin TO gw_admin;
CREATE ROLE gw_monitor; GRANT millrace_monitor TO gw_monitor;
CREATE ROLE gw_app; CREATE ROLE gw_other; CREATE ROLE gw_super SUPERUSER;
GRANT gw_app TO gw_admin;
CREATE SCHEMA gw;
GRANT USAGE ON SCHEMA gw TO PUBLIC;
CREATE FUNCTION gw.find(id int, deep boolean DEFAULT false) RETURNS jsonb LANGUAGE sql STABLE AS $$ SELECT jsonb_build_object('id', id) $$;
CREATE FUNCTION gw.find(id text) RETURNS text LANGUAGE sql STABLE AS 'SELECT id';
CREATE FUNCTION gw.again(jsonb) RETURNS millrace.http_response LANGUAGE sql AS $$ SELECT millrace.respond(200, $1) $$;
CREATE FUNCTION gw.put(body jsonb) RETURNS void LANGUAGE sql AS '';
CREATE FUNCTION gw."odd name"("a b" int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE PROCEDURE gw.proc() LANGUAGE sql AS '';
CREATE VIEW gw.mine AS
	SELECT method, prefix, path, function, poll_function, role, scope, body, open, read_only, max_body, timeout_ms, concurrency, per_minute, interval_ms, summary
	  FROM millrace.routes WHERE NOT builtin ORDER BY route_id;
GRANT SELECT ON gw.mine TO PUBLIC;

-- made: defaults by the method, everything that can be said
SET SESSION AUTHORIZATION gw_admin;
SELECT millrace.create_route('GET', '/find/{id}', 'gw.find(int, boolean)') IS NOT NULL AS made;
SELECT millrace.create_route('post', '/find', 'gw.find(text)') IS NOT NULL AS made;
SELECT millrace.create_route('PUT', '/put', 'gw.put(jsonb)', '{"body": "json", "role": "gw_app", "scope": "put", "open": true, "max_body": 10, "timeout_ms": 5, "concurrency": 2, "per_minute": 60,
	"summary": "puts", "poll_function": "gw.again(jsonb)", "read_only": true, "responses": {"201": {}}}') IS NOT NULL AS made;
SELECT millrace.create_route('GET', '/odd', 'gw."odd name"(int)', '{"interval_ms": 500, "pipeline": "p", "prefix": "/a/b"}') IS NOT NULL AS made;
SELECT * FROM gw.mine \gx
SELECT DISTINCT created_by FROM millrace.routes WHERE NOT builtin;

-- refused
SET SESSION AUTHORIZATION gw_admin;
SELECT millrace.create_route('GET', '/find/{other}', 'gw.find(int, boolean)');
SELECT millrace.create_route('GET', '/find/{deep}', 'gw.find(int, boolean)');
SELECT millrace.create_route('GET', '/x', 'gw.no_such(int)');
SELECT millrace.create_route('GET', '/x', 'gw.proc()');
SELECT millrace.create_route('GET', '/x', 'pg_catalog.sum(int)');
SELECT millrace.create_route('GET', '/x', NULL);
SELECT millrace.create_route('HEAD', '/x', 'gw.find(text)');
SELECT millrace.create_route('CONNECT', '/x', 'gw.find(text)');
SELECT millrace.create_route('GET', 'x', 'gw.find(text)');
SELECT millrace.create_route('GET', '/x/{id', 'gw.find(text)');
SELECT millrace.create_route('GET', '/x/a{id}', 'gw.find(text)');
SELECT millrace.create_route('GET', '/x/{id}b', 'gw.find(text)');
SELECT millrace.create_route('GET', '/x/{id}/{id}', 'gw.find(text)');
SELECT millrace.create_route('GET', '/x?id=1', 'gw.find(text)');
SELECT millrace.create_route('GET', '/x y', 'gw.find(text)');
SELECT millrace.create_route('GET', '/%2e', 'gw.find(text)');
SELECT millrace.create_route('GET', '/x', 'gw.find(text)', '{"colour": "red"}');
SELECT millrace.create_route('GET', '/x', 'gw.find(text)', '{"role": "gw_nobody"}');
SELECT millrace.create_route('GET', '/x', 'gw.find(text)', '{"poll_function": "gw.nothing(jsonb)"}');
SELECT millrace.create_route('GET', '/x', 'gw.find(text)', '{"poll_function": "gw.again"}');
SELECT millrace.create_route('GET', '/x', 'gw.find(text)', '{"read_only": false}');
SELECT millrace.create_route('POST', '/x', 'gw.find(text)', '{"interval_ms": 500}');
SELECT millrace.create_route('GET', '/x', 'gw.find(text)', '{"body": ["xml"]}');
SELECT millrace.create_route('GET', '/x', 'gw.find(text)', '{"prefix": "/a"}');
SELECT millrace.create_route('GET', '/x', 'gw.find(text)', '{"pipeline": "p", "prefix": "a/"}');
SELECT millrace.create_route('GET', '/x', 'gw.find(text)', '{"timeout_ms": 0}');
SELECT millrace.create_route('GET', '/x', 'gw.find(text)', '{"max_body": -1}');
SELECT millrace.create_route('GET', '/x', 'gw.find(text)', '{"scope": "a:b"}');
SELECT millrace.create_route('GET', '/x', 'gw.find(text)', '{"per_minute": "many"}');

-- prefixes: alike patterns are one
SELECT millrace.create_route('GET', '/find/{id}', 'gw.find(text)', '{"pipeline": "p", "prefix": "/a/b"}') IS NOT NULL AS made;
SELECT millrace.set_route_prefix('p', '');
SELECT millrace.set_route_prefix('p', '/c');
SELECT millrace.set_route_prefix('p', 'c');
SELECT millrace.set_route_prefix('none', '/c');
SELECT method, prefix || path AS path FROM gw.mine;

-- dropped: by the whole path, never one of the extension's
SELECT millrace.drop_route('get', '/find/{id}');
SELECT millrace.drop_route('get', '/find/{id}');
SELECT millrace.drop_route('GET', '/c/odd');
SELECT millrace.drop_route(method, prefix || path) FROM (SELECT method, prefix, path FROM millrace.routes WHERE builtin ORDER BY route_id LIMIT 1) r;
SELECT millrace.drop_route('POST', '/find'), millrace.drop_route('PUT', '/put'), millrace.drop_route('GET', '/c/find/{id}');
SELECT count(*) FROM gw.mine;

-- tokens: told once, kept as a hash
SELECT token ~ '^mr_[A-Za-z0-9_-]{43}$' AS looks_like_one FROM millrace.create_api_token('one', 'gw_app') token;
SELECT millrace.create_api_token('two', 'gw_app', '{"scopes": ["images", "answers:read"], "per_minute": 60, "expires_in": "1 hour"}') <> millrace.create_api_token('three', 'gw_app', '{"scopes": null, "expires_at": "2026-12-24"}') AS differ;
SELECT name, role, scopes, per_minute, expires_at > now() AS later, expires_at - created_at AS after, revoked_at, created_by FROM millrace.api_tokens WHERE name <> 'three' ORDER BY token_id;
SELECT millrace.create_api_token('one', 'gw_app');
SELECT millrace.create_api_token('', 'gw_app');
SELECT millrace.create_api_token('x', 'gw_nobody');
SELECT millrace.create_api_token('x', 'gw_super');
SELECT millrace.create_api_token('x', 'gw_other');
SELECT millrace.create_api_token('x', 'gw_app', '{"scope": ["a"]}');
SELECT millrace.create_api_token('x', 'gw_app', '{"scopes": "a"}');
SELECT millrace.create_api_token('x', 'gw_app', '{"per_minute": 0}');
SELECT millrace.create_api_token('x', 'gw_app', '{"expires_in": "soon"}');
SELECT millrace.revoke_api_token('one');
SELECT millrace.revoke_api_token('nobody');
SELECT name, revoked_at IS NOT NULL AS revoked FROM millrace.api_tokens ORDER BY token_id;
SELECT millrace.create_api_token('one', 'gw_app');

-- nobody but the owner reads hashes, and only functions write
SELECT token_sha256 FROM millrace.api_tokens;
SELECT * FROM millrace.api_tokens;
UPDATE millrace.api_tokens SET role = 'gw_super';
DELETE FROM millrace.routes;
INSERT INTO millrace.routes (method, path, function) VALUES ('GET', '/x', 'gw.put(jsonb)');
SELECT millrace.random_token();
SELECT millrace.gateway_settings();
SET SESSION AUTHORIZATION gw_monitor;
SELECT name FROM millrace.api_tokens ORDER BY token_id;
SELECT count(*) > 0 AS reads_routes FROM millrace.routes;
SELECT token_sha256 FROM millrace.api_tokens;
SELECT millrace.create_route('GET', '/x', 'gw.find(text)');
SELECT millrace.create_api_token('x', 'gw_app');
SET SESSION AUTHORIZATION gw_app;
SELECT name FROM millrace.api_tokens;
SELECT path FROM millrace.routes;
SELECT millrace.drop_route('GET', '/');
SELECT millrace.set_route_prefix('p', '/c');
SELECT millrace.set_pipeline_routes('p', '/c', '[]');
SELECT millrace.revoke_api_token('two');
RESET SESSION AUTHORIZATION;
SELECT octet_length(token_sha256) FROM millrace.api_tokens ORDER BY token_id;

-- the gateway's role may do nothing of its own
SELECT rolsuper, rolcreaterole, rolcreatedb, rolbypassrls, rolreplication, rolinherit, rolconnlimit FROM pg_roles WHERE rolname = 'millrace_gateway';
SELECT count(*) AS owned FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid WHERE r.rolname = 'millrace_gateway' AND d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o';
SELECT DISTINCT c.oid::regclass FROM pg_class c, LATERAL aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee WHERE r.rolname = 'millrace_gateway';

DELETE FROM millrace.api_tokens;
DROP SCHEMA gw CASCADE;
DROP ROLE gw_admin, gw_monitor, gw_app, gw_other, gw_super;
