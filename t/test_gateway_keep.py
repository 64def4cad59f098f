"""Routes and tokens are dumped and restored: the same tokens ask the same routes of another database."""
# timeout: 120
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import free_port
from lib.web import Web, gateway, token

SETUP = """
    CREATE ROLE app;
    CREATE SCHEMA app;
    GRANT USAGE ON SCHEMA app TO app;
    CREATE FUNCTION app.where_am_i() RETURNS text LANGUAGE sql STABLE AS 'SELECT current_database()::text';
    CREATE FUNCTION app.other(n int) RETURNS int LANGUAGE sql STABLE AS 'SELECT n';
    SELECT millrace.create_route('GET', '/where', 'app.where_am_i()', '{"timeout_ms": 700, "scope": "w"}'),
           millrace.create_route('GET', '/dropped', 'app.where_am_i()'),
           millrace.create_route('POST', '/other/{n}', 'app.other(int)', '{"pipeline": "p", "prefix": "/a", "responses": {"200": {"description": "n"}}}');
    SELECT millrace.drop_route('GET', '/dropped');
"""
ROUTES = 'SELECT to_jsonb(r) FROM millrace.routes r WHERE NOT builtin ORDER BY route_id'
BUILT_IN = "SELECT (to_jsonb(r) - '{created_at,created_by}'::text[]) FROM millrace.routes r WHERE builtin ORDER BY route_id"
TOKENS = 'SELECT to_jsonb(t) FROM millrace.api_tokens t ORDER BY token_id'


def main():
    with gateway('gateway_keep', SETUP) as (c, port):
        good, scoped, revoked = token(c, 'app'), token(c, 'app', scopes=['p']), token(c, 'app')
        c.psql("SELECT millrace.revoke_api_token('test 2')")
        tap.same(Web(port, good).until('/where'), (200, b'postgres'), 'a route and its token')
        dump = c.program('pg_dump')
        tap.ok(good not in dump, 'the token itself stands in no dump')
        c.psql('CREATE DATABASE copy')
        c.psql(dump, db='copy')
        for what, sql in (('routes', ROUTES), ('those of the extension', BUILT_IN), ('tokens', TOKENS)):
            tap.same(c.psql(sql, db='copy'), c.psql(sql), 'a restored database has the same ' + what)
        tap.same(c.value("SELECT min(route_id) >= 1000 FROM millrace.routes WHERE NOT builtin"), 't', 'users\' routes have numbers that later ones of the extension do not take')
        tap.same(c.value("SELECT max(route_id) < 1000 FROM millrace.routes WHERE builtin"), 't', 'nor they theirs')
        other = free_port()
        c.psql("ALTER DATABASE copy SET millrace.http_listen = '127.0.0.1:%d'" % other)
        c.psql('SELECT millrace.start()', db='copy')
        c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace gateway' AND datname = 'copy'", '1')
        tap.same([Web(at, good).until('/where') for at in (port, other)], [(200, b'postgres'), (200, b'copy')], 'both answer it, each for itself')
        tap.same([Web(other, t).until('/where', s)[0] for t, s in ((scoped, 403), (revoked, 401), (None, 401))], [403, 401, 401], 'a scope, a revoked token, none')
        tap.same(Web(other, scoped).post('/a/other/7', {}), (200, 7), 'the other route with its prefix')
        tap.same(c.value("SELECT millrace.create_route('GET', '/new', 'app.where_am_i()')", db='copy'), '1003', 'the next route has the next number')
        tap.same(Web(other, good).until('/new'), (200, b'copy'), 'and is answered')
        tap.same(Web(port, good).get('/new')[0], 404, 'there alone')
    tap.done()


main()
