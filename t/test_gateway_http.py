#!/usr/bin/env python3
# timeout: 900
# takes: 90
"""The gateway over real sockets: requests and answers, tokens, limits, bodies of all kinds, connections kept and cut, streams, polls, TLS, and
its life with the server.  A part's name as argument runs that part alone.
"""
import base64
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, SqlError, find_pg_config, free_port, unprivileged
import psycopg

TMP = pathlib.Path(os.environ.get('MILLRACE_TMP', 'tmp/test_gateway_http')).resolve()
FULL = bool(os.environ.get('MILLRACE_FULL'))

SETUP = """
    CREATE ROLE web; CREATE ROLE boss; CREATE ROLE nobody_here; CREATE ROLE anon; GRANT boss TO web;
    CREATE SCHEMA w; GRANT USAGE ON SCHEMA w TO PUBLIC;
    CREATE FUNCTION w.hello(name text DEFAULT 'world') RETURNS json LANGUAGE sql STABLE AS
        $$ SELECT json_build_object('hello', name, 'role', current_user) $$;
    CREATE FUNCTION w.two(a text, b text DEFAULT '-') RETURNS text LANGUAGE sql STABLE AS $$ SELECT a || ' ' || b $$;
    CREATE FUNCTION w.echo(body jsonb) RETURNS jsonb LANGUAGE sql AS $$ SELECT body $$;
    CREATE FUNCTION w.raw(body bytea) RETURNS jsonb LANGUAGE sql AS $$ SELECT jsonb_build_object('bytes', length(body), 'md5', md5(body)) $$;
    CREATE FUNCTION w.file(file bytea, file_name text, file_type text DEFAULT NULL, note text DEFAULT NULL) RETURNS jsonb LANGUAGE sql AS
        $$ SELECT jsonb_build_object('bytes', length(file), 'md5', md5(file), 'name', file_name, 'type', file_type, 'note', note) $$;
    CREATE FUNCTION w.sleep(s float8) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(s); RETURN 'slept'; END $$;
    CREATE FUNCTION w.told() RETURNS jsonb LANGUAGE sql STABLE AS
        $$ SELECT jsonb_build_object('headers', current_setting('request.headers')::jsonb, 'path', current_setting('request.path'), 'method', current_setting('request.method')) $$;
    CREATE FUNCTION w.tagged() RETURNS millrace.http_response LANGUAGE sql STABLE AS
        $$ SELECT millrace.respond(200, '{"a": 1}', '{"ETag": "\\"v1\\"", "Cache-Control": "max-age=5", "X-Own": "yes"}') $$;
    CREATE FUNCTION w.large(n int) RETURNS text LANGUAGE sql STABLE AS $$ SELECT repeat('x', n) $$;
    CREATE TABLE w.done (id text PRIMARY KEY, at timestamptz); GRANT ALL ON w.done TO web;
    CREATE FUNCTION w.ask(id text, within int DEFAULT 5000) RETURNS millrace.http_response LANGUAGE sql AS
        $$ SELECT millrace.respond_later(202, jsonb_build_object('id', id, 'status', 'pending'), jsonb_build_object('id', id), within, 20) $$;
    CREATE FUNCTION w.poll(poll jsonb) RETURNS millrace.http_response LANGUAGE sql AS
        $$ SELECT millrace.respond(200, jsonb_build_object('id', d.id, 'status', 'done')) FROM w.done d WHERE d.id = poll ->> 'id' $$;
    CREATE TABLE w.state (x int); INSERT INTO w.state VALUES (1); GRANT SELECT ON w.state TO web;
    CREATE FUNCTION w.watch() RETURNS json LANGUAGE sql STABLE AS $$ SELECT json_build_object('x', x) FROM w.state $$;
    SELECT millrace.create_route('GET', '/hello', 'w.hello(text)'), millrace.create_route('GET', '/hello/{name}', 'w.hello(text)'),
        millrace.create_route('GET', '/hello/fixed', 'w.two(text, text)'), millrace.create_route('GET', '/two/{a}/{b}', 'w.two(text, text)'),
        millrace.create_route('GET', '/open', 'w.hello(text)', '{"open": true}'),
        millrace.create_route('GET', '/boss', 'w.hello(text)', '{"role": "boss"}'), millrace.create_route('GET', '/nobody', 'w.hello(text)', '{"role": "nobody_here"}'),
        millrace.create_route('GET', '/scoped', 'w.hello(text)', '{"scope": "special"}'), millrace.create_route('POST', '/scoped', 'w.echo(jsonb)', '{"scope": "special"}'),
        millrace.create_route('POST', '/echo', 'w.echo(jsonb)', '{"body": ["json"]}'), millrace.create_route('POST', '/raw', 'w.raw(bytea)', '{"body": ["raw"]}'),
        millrace.create_route('POST', '/form', 'w.two(text, text)', '{"body": ["json", "form", "multipart"]}'),
        millrace.create_route('POST', '/file', 'w.file(bytea, text, text, text)', '{"body": ["multipart"]}'),
        millrace.create_route('POST', '/small', 'w.raw(bytea)', '{"body": ["raw"], "max_body": 1000}'),
        millrace.create_route('POST', '/huge', 'w.raw(bytea)', '{"body": ["raw"], "max_body": 40000000}'),
        millrace.create_route('POST', '/sleep', 'w.sleep(float8)'), millrace.create_route('POST', '/short', 'w.sleep(float8)', '{"timeout_ms": 300}'),
        millrace.create_route('POST', '/alone', 'w.sleep(float8)', '{"concurrency": 1}'),
        millrace.create_route('GET', '/limited', 'w.hello(text)', '{"per_minute": 3}'), millrace.create_route('GET', '/told', 'w.told()'),
        millrace.create_route('GET', '/tagged', 'w.tagged()'), millrace.create_route('GET', '/large', 'w.large(int)'),
        millrace.create_route('POST', '/ask', 'w.ask(text, int)', '{"poll_function": "w.poll(jsonb)"}'),
        millrace.create_route('GET', '/watch', 'w.watch()', '{"interval_ms": 100}'),
        millrace.create_route('GET', '/status/{name}', 'w.hello(text)', '{"pipeline": "pipe one", "prefix": "/one"}');
"""


class Door:
    """The server under test, its token, and how to ask it."""

    def __init__(self, pg, port, token, tls=None):
        self.pg, self.port, self.token, self.tls = pg, port, token, tls

    def connect(self, timeout=20):
        if self.tls:
            return http.client.HTTPSConnection('localhost', self.port, timeout=timeout, context=self.tls)
        return http.client.HTTPConnection('127.0.0.1', self.port, timeout=timeout)

    def __call__(self, method, path, body=None, headers=None, token=True, timeout=20, chunked=False):
        """Status, headers, body as text."""
        with contextlib.closing(self.connect(timeout)) as c:
            auth = {'Authorization': 'Bearer ' + (self.token if token is True else token)} if token else {}
            c.request(method, path, body, {**auth, **(headers or {})}, encode_chunked=chunked)
            r = c.getresponse()
            return r.status, r.headers, r.read().decode()

    def json(self, method, path, value=None, **more):
        status, _, text = self(method, path, None if value is None else json.dumps(value), {'Content-Type': 'application/json'} if value is not None else {}, **more)
        return status, json.loads(text) if text.startswith(('{', '[')) else text

    def raw(self, *pieces, timeout=20, pause=0, half=False):
        """What comes back to raw bytes until the other side closes, and how long that took."""
        began = time.monotonic()
        with socket.create_connection(('127.0.0.1', self.port), timeout=timeout) as s:
            out = b''
            try:
                for p in pieces:
                    s.sendall(p)
                    time.sleep(pause)
                if half:
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass                # what came back before it was closed is still there
            try:
                while True:
                    got = s.recv(65536)
                    if not got:
                        break
                    out += got
            except OSError as e:
                out += b'<' + type(e).__name__.encode() + b'>'
        return out, time.monotonic() - began

    def head(self, method='GET', path='/hello', *lines):
        return ('%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n' % (method, path, self.token, ''.join(l + '\r\n' for l in lines))).encode()

    def wait(self, seconds=30):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self('GET', '/hello', timeout=5)[0] == 200:
                    return True
            time.sleep(.1)
        raise RuntimeError('the gateway does not answer: %s' % (self.pg.psql('SELECT kind, name, state, reason FROM millrace.worker_status()'),))

    def pid(self):
        return self.pg.value("SELECT pid FROM millrace.worker_status() WHERE kind = 'gateway'")


def until(what, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(.05)
    return False


def code(answer):
    """Status of a raw answer; 0: none."""
    m = re.match(rb'HTTP/1\.1 (\d+) ', answer)
    return int(m.group(1)) if m else 0


# ---- parts

def part_requests(d):
    tap.same(d.json('GET', '/hello'), (200, {'hello': 'world', 'role': 'web'}), 'a function answers as the role of the token')
    tap.same(d.json('GET', '/hello?name=a%20b%26+c')[1]['hello'], 'a b& c', 'a parameter of the query')
    tap.same(d('GET', '/hello?name=a&name=b')[0], 400, 'a parameter given twice that is no array')
    tap.same(d.json('GET', '/hello/%C3%A9%2Fx')[1]['hello'], '\u00e9/x', 'a parameter of the path, unescaped')
    tap.same(d('GET', '/hello/a?name=b')[0], 400, "the path's parameter is not to be given again")
    tap.same(d('GET', '/hello/fixed?a=1')[2], '1 -', 'a word beats a parameter')
    tap.same(d('GET', '/two/x/y')[2], 'x y', 'two of them')
    tap.same(d('GET', '/two/x/y')[1]['Content-Type'], 'text/plain; charset=utf-8', 'a text says its charset')
    for path, status in (('/nix', 404), ('/hello/', 404), ('//hello', 404), ('/hello//x', 404), ('/HELLO', 404), ('/two/x', 404), ('/hello/..', 400), ('/hello/%2e%2e/x', 400),
                         ('/hello/%00', 400), ('/hello/%ff', 400), ('/hello/%', 400), ('/hello/%4', 400), ('/hello?name=%zz', 400), ('/hello?name=%00', 400), ('/./hello', 400)):
        got, _, text = d('GET', path)
        tap.ok(got == status and json.loads(text)['code'] == 'PT%d' % status and set(json.loads(text)) == {'code', 'message', 'details', 'hint'}, 'GET %s is a %d' % (path, status))
    for method in ('POST', 'DELETE', 'BREW'):
        status, headers, _ = d(method, '/hello')
        tap.same((status, headers['Allow']), (405, 'GET, HEAD, OPTIONS'), '%s where there is only GET' % method)
    status, headers, text = d('HEAD', '/hello')
    tap.same((status, headers['Content-Length'], text), (200, str(len(d('GET', '/hello')[2])), ''), 'HEAD is GET without the body')
    status, headers, text = d('OPTIONS', '/scoped', token=None)
    tap.same((status, headers['Allow'], text), (204, 'GET, HEAD, POST, OPTIONS', ''), 'OPTIONS tells the methods')
    tap.same(d('OPTIONS', '/nix', token=None)[0], 404, 'of a path that there is')
    told = d.json('GET', '/told?x=1')
    tap.same(told[0], 400, 'what no argument is called is a 400')
    status, told = d.json('GET', '/told')
    tap.ok('authorization' not in told['headers'] and told['headers']['host'] and told['path'] == '/told' and told['method'] == 'GET', 'request.headers, path and method')
    status, _, text = d('GET', '/told', headers={'X-Odd': 'a"b\\c\t\xe9', 'Cookie': 'secret=1'})
    tap.ok(json.loads(text)['headers']['x-odd'] == 'a"b\\c\t\u00e9' and 'cookie' not in text, 'a header with odd letters; cookies are left out')
    status, headers, _ = d('GET', '/tagged')
    tap.same((status, headers['ETag'], headers['Cache-Control'], headers['X-Own'], headers['X-Content-Type-Options'], headers.get('Server')),
             (200, '"v1"', 'max-age=5', 'yes', 'nosniff', None), 'headers of the function, and ours')
    tap.same([d('GET', '/tagged', headers={'If-None-Match': e})[0] for e in ('"v1"', '"x", "v1"', '*', '"x"')], [304, 304, 304, 200], 'If-None-Match')
    tap.same(d('GET', '/hello')[1]['Cache-Control'], 'no-store', 'else nothing is kept')
    many = '&'.join('a%d=1' % i for i in range(300))
    tap.same(d('GET', '/hello?' + many)[0], 400, 'too many parameters')
    tap.same(d('GET', '/hello?name=' + 'x' * 9000)[0], 414, 'a path too long')
    tap.same(d('GET', '/hello', headers={'X-A': 'x' * 20000})[0], 431, 'headers too long')
    tap.same(d('GET', '/hello', headers={'X-%d' % i: 'x' for i in range(120)})[0], 431, 'too many headers')
    tap.same(code(d.raw(b'GET http://somewhere/hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer ' + d.token.encode() + b'\r\n\r\n')[0]), 200, 'the whole address, as proxies write it')


def part_tokens(d):
    pg = d.pg
    basic = lambda user, token: {'Authorization': 'Basic ' + base64.b64encode(('%s:%s' % (user, token)).encode()).decode()}
    tap.same([d('GET', '/hello', headers=basic(u, d.token), token=None)[0] for u in ('', 'web', 'boss')], [200, 200, 401], 'Basic, with no user or the role')
    for headers in ({}, {'Authorization': 'Bearer mr_wrong'}, {'Authorization': 'Bearer ' + 'x' * 500}, {'Authorization': 'Digest x'}, {'Authorization': 'Basic !!!'}, {'Authorization': ''}):
        status, told, text = d('GET', '/hello', headers=headers, token=None)
        tap.ok(status == 401 and told['WWW-Authenticate'].startswith('Bearer') and d.token not in text, '401 to %s' % (headers or 'no token'))
    status, told, _ = d('GET', '/hello', headers={'Accept': 'text/html,*/*'}, token=None)
    tap.ok(any(a.startswith('Basic') for a in told.get_all('WWW-Authenticate')), 'a browser is asked for a password')
    status, told, _ = d('GET', '/hello', token='wrong')
    tap.ok('invalid_token' in told['WWW-Authenticate'], 'it is said that the token is the fault')
    twice = ('GET /hello HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nAuthorization: Bearer x\r\nConnection: close\r\n\r\n' % d.token).encode()
    tap.same(code(d.raw(twice)[0]), 401, 'two of them are none')
    tap.same(d.json('GET', '/open', token=None), (200, {'hello': 'world', 'role': 'millrace_gateway'}), 'an open route needs none')
    tap.same(d.json('GET', '/open')[1]['role'], 'web', 'but takes one')
    tap.same(d('GET', '/open', token='wrong')[0], 401, 'that is good')
    tap.same([d('GET', p)[0] for p in ('/boss', '/nobody')], [200, 403], "a route's role")
    scoped = pg.value("SELECT millrace.create_api_token('scoped', 'web', '{\"scopes\": [\"special:read\"]}')")
    tap.ok(until(lambda: d('GET', '/scoped', token=scoped)[0] == 200), 'a new token is known at once')
    tap.same([d('GET', '/scoped', token=scoped)[0], d('POST', '/scoped', '{}', {'Content-Type': 'application/json'}, token=scoped)[0], d('GET', '/hello', token=scoped)[0]],
             [200, 403, 403], 'its scopes hold')
    pg.psql("SELECT millrace.revoke_api_token('scoped')")
    tap.ok(until(lambda: d('GET', '/scoped', token=scoped)[0] == 401, 3), 'a revoked one is refused')
    brief = pg.value("SELECT millrace.create_api_token('brief', 'web', '{\"expires_in\": \"2 seconds\"}')")
    tap.ok(until(lambda: d('GET', '/hello', token=brief)[0] == 200, 2) and until(lambda: d('GET', '/hello', token=brief)[0] == 401, 5), 'one that expires is')
    pg.psql('CREATE ROLE gone')
    gone = pg.value("SELECT millrace.create_api_token('gone', 'gone')")
    tap.ok(until(lambda: d('GET', '/hello', token=gone)[0] == 200), 'a token of a role')
    pg.psql('ALTER ROLE gone SUPERUSER')
    tap.ok(until(lambda: d('GET', '/hello', token=gone)[0] == 401, 12), 'that became a superuser is refused')
    pg.psql('DROP ROLE gone')
    tap.ok(until(lambda: d('GET', '/hello', token=gone)[0] == 401, 12), 'and of one that is dropped')
    few = pg.value("SELECT millrace.create_api_token('few', 'web', '{\"per_minute\": 5}')")
    until(lambda: d('GET', '/nix', token=few)[0] == 404 and pg.value("SELECT 1") and True, 1)
    time.sleep(.5)
    got = [d('GET', '/hello', token=few) for _ in range(8)]
    tap.same([g[0] for g in got], [200] * 5 + [429] * 3, "a token's requests a minute")
    tap.ok(1 <= int(got[-1][1]['Retry-After']) <= 13, 'and when it may come again')
    tap.same([d('GET', '/limited')[0] for _ in range(4)], [200, 200, 200, 429], "a route's")
    tap.same(d('GET', '/hello')[0], 200, 'nobody else is held up')
    pg.psql("SELECT millrace.create_route('GET', '/new', 'w.hello(text)')")
    tap.ok(until(lambda: d('GET', '/new')[0] == 200), 'a new route is known at once')
    pg.psql("SELECT millrace.drop_route('GET', '/new')")
    tap.ok(until(lambda: d('GET', '/new')[0] == 404), 'and one that was dropped is gone')
    held = psycopg.connect(pg.dsn(), autocommit=True)
    held.execute('BEGIN')
    held.execute('LOCK millrace.routes IN ACCESS EXCLUSIVE MODE')
    time.sleep(6)
    began = time.monotonic()
    tap.ok(d('GET', '/hello')[0] == 200 and time.monotonic() - began < 1, 'a lock on the routes holds nothing up')
    held.execute('ROLLBACK')
    held.close()


def multipart(parts, mark='xyz'):
    """A form of (name, file name or None, type or None, bytes)."""
    out = b''
    for name, filename, kind, content in parts:
        out += ('--%s\r\nContent-Disposition: form-data; name="%s"%s\r\n%s\r\n' % (
            mark, name, '; filename="%s"' % filename if filename is not None else '', 'Content-Type: %s\r\n' % kind if kind else '')).encode() + content + b'\r\n'
    return out + ('--%s--\r\n' % mark).encode(), {'Content-Type': 'multipart/form-data; boundary=' + mark}


def part_bodies(d):
    tap.same(d.json('POST', '/echo', {'a': [1, None, 'é']}), (200, {'a': [1, None, 'é']}), 'JSON')
    tap.same(d('POST', '/form', 'a=1+2&b=%C3%A9', {'Content-Type': 'application/x-www-form-urlencoded; charset=UTF-8'})[2], '1 2 é', 'a form')
    tap.same(d('POST', '/form', *multipart([('a', None, None, b'x'), ('b', None, None, 'ü'.encode())]))[2], 'x ü', 'a form of parts')
    content = os.urandom(3000000)
    answer = json.loads(d('POST', '/file', *multipart([('note', None, None, b'hi'), ('file', 'a "b".bin'.replace('"', '\\"'), 'image/x-odd', content)]))[2])
    tap.same(answer, {'bytes': len(content), 'md5': hashlib.md5(content).hexdigest(), 'name': 'a "b".bin', 'type': 'image/x-odd', 'note': 'hi'}, 'a file of 3 MB, with its name and type')
    for body in (b'', b'\r\n--xyz\r\n', b'\0\xff' * 50, b'--xy', b'\r\n--xy\r\n'):
        if body != b'\r\n--xyz\r\n':
            answer = json.loads(d('POST', '/file', *multipart([('file', 'f', None, body)]))[2])
            tap.same((answer['bytes'], answer['md5']), (len(body), hashlib.md5(body).hexdigest()), 'a file of %d odd bytes' % len(body))
    answer = json.loads(d('POST', '/raw', content, {'Content-Type': 'image/png'})[2])
    tap.same(answer['md5'], hashlib.md5(content).hexdigest(), 'raw bytes')
    answer = json.loads(d('POST', '/raw', (content[i:i + 70000] for i in range(0, len(content), 70000)), {'Transfer-Encoding': 'chunked'}, chunked=True)[2])
    tap.same(answer['md5'], hashlib.md5(content).hexdigest(), 'in chunks')
    bad, headers = multipart([('file', 'f', None, b'x' * 100)])
    tap.same(d('POST', '/file', bad[:-20], headers)[0], 400, 'a form that ends too early')
    tap.same(d('POST', '/file', bad, {'Content-Type': 'multipart/form-data'})[0], 400, 'one without a boundary')
    tap.same(d('POST', '/form', *multipart([('a', None, None, b'\xff')]))[0], 400, 'a field that is not UTF-8')
    tap.same(d('POST', '/form', 'a=%00', {'Content-Type': 'application/x-www-form-urlencoded'})[0], 400, 'one with a NUL')
    tap.same(d('POST', '/echo', b'{"a": "\xff"}', {'Content-Type': 'application/json'})[0], 400, 'JSON that is not UTF-8')
    tap.same(d('POST', '/echo', b'{"a"', {'Content-Type': 'application/json'})[0], 400, 'what is not JSON')
    for path, kind in (('/echo', 'text/plain'), ('/echo', 'application/x-www-form-urlencoded'), ('/form', 'image/png'), ('/file', 'application/json')):
        tap.same(d('POST', path, 'a=1', {'Content-Type': kind})[0], 415, '%s does not take %s' % (path, kind))
    tap.same(d('GET', '/hello', 'x', {'Content-Type': 'text/plain'})[0], 415, 'nor a GET anything')
    tap.same(d('POST', '/echo', '{}', {'Content-Type': 'application/json; charset=latin1'})[0], 415, 'texts in another charset')
    tap.same(d('POST', '/echo', '{}', {'Content-Type': 'application/json', 'Content-Encoding': 'gzip'})[0], 415, 'encoded ones')
    tap.same(d('POST', '/small', 'x' * 1000)[0], 200, 'a body as large as may be')
    tap.same(d('POST', '/small', 'x' * 1001)[0], 413, 'one byte more')
    tap.same(d('POST', '/small', iter([b'x' * 600, b'x' * 600]), {'Transfer-Encoding': 'chunked'}, chunked=True)[0], 413, 'the same in chunks')
    tap.same(d('POST', '/raw', b'x' * 20000000)[0], 413, 'twenty megabytes: the answer is read')
    with contextlib.closing(d.connect()) as c:
        for n, status in ((2000, 413), (10, 200), (1001, 413), (5, 200)):
            c.request('POST', '/small', 'x' * n, {'Authorization': 'Bearer ' + d.token})
            r = c.getresponse()
            r.read()
            tap.same(r.status, status, 'on one connection: %d bytes' % n)
    announced = d.head('POST', '/small', 'Content-Length: 5000', 'Expect: 100-continue')
    answer, _ = d.raw(announced, half=False)
    tap.ok(code(answer) == 413, 'a body too large is refused before it is sent (100-continue)')
    with socket.create_connection(('127.0.0.1', d.port), timeout=10) as s:
        s.sendall(d.head('POST', '/small', 'Content-Length: 5', 'Expect: 100-continue', 'Connection: close'))
        first = s.recv(1000)
        s.sendall(b'abcde')
        rest = b''
        while True:
            got = s.recv(1000)
            if not got:
                break
            rest += got
        tap.ok(first.startswith(b'HTTP/1.1 100 ') and code(rest) == 200, 'a good one is asked for')
    tap.same(d('POST', '/small', 'x', {'Expect': 'tea'})[0], 417, 'another expectation')
    for name, lines, body in (('two lengths', ('Content-Length: 3', 'Content-Length: 4'), b'abcd'), ('length and chunks', ('Content-Length: 3', 'Transfer-Encoding: chunked'), b'0\r\n\r\n'),
                              ('a bad length', ('Content-Length: 3x',), b'abc'), ('a negative one', ('Content-Length: -3',), b'abc'), ('bad chunks', ('Transfer-Encoding: chunked',), b'zz\r\nabc\r\n'),
                              ('two hosts', ('Host: y', 'Content-Length: 0'), b'')):
        answer, took = d.raw(d.head('POST', '/raw', *lines), body, half=True)
        tap.ok(code(answer) == 400 and b'Timeout' not in answer, '%s: 400, and the connection is closed' % name)
    answer, _ = d.raw(d.head('POST', '/raw', 'Transfer-Encoding: gzip'), b'abc', half=True)
    tap.ok(code(answer) == 501, 'another transfer coding')
    answer, took = d.raw(d.head('POST', '/raw', 'Content-Length: 100'), b'abc', half=True)
    tap.ok(b'200' not in answer[:20] and took < 5, 'a body that is cut short reaches no function')
    took = 0
    for data in (d.head('POST', '/raw', 'Content-Length: 100') + b'abc', d.head()[:-2], b'GET /hel'):
        for _ in range(5):
            took = max(took, d.raw(data, half=True)[1])
    tap.ok(took < 2, 'an end that comes with the last bytes is seen (%.1f s)' % took)
    tap.same(d('GET', '/large?n=5000000')[2], 'x' * 5000000, 'an answer of 5 MB')


def part_connections(d):
    with contextlib.closing(d.connect()) as c:
        n = 10000
        began, cpu = time.monotonic(), 0
        bad = 0
        for i in range(n):
            c.request('GET', '/hello?name=%d' % i, headers={'Authorization': 'Bearer ' + d.token})
            r = c.getresponse()
            bad += json.loads(r.read())['hello'] != str(i)
        tap.ok(bad == 0, '%d requests on one connection' % n)
        tap.note('%.0f a second' % (n / (time.monotonic() - began)))
    bad = 0
    began = time.monotonic()
    for i in range(10000 if FULL else 3000):
        with socket.create_connection(('127.0.0.1', d.port), timeout=10) as s:
            s.sendall(d.head('GET', '/hello', 'Connection: close'))
            out = b''
            while True:
                got = s.recv(4096)
                if not got:
                    break
                out += got
            bad += code(out) != 200
    tap.ok(bad == 0, '%d connections in sequence' % (i + 1))
    tap.note('%.0f a second' % ((i + 1) / (time.monotonic() - began)))
    out, _ = d.raw(b''.join(d.head('GET', '/hello/%d' % i, *(['Connection: close'] if i == 49 else [])) for i in range(50)))
    tap.same(re.findall(rb'"hello" : "(\d+)"', out), [b'%d' % i for i in range(50)], 'fifty requests at once on one connection are answered in order')
    results = []

    def one(i):
        try:
            results.append(d('GET', '/hello?name=%d' % i, timeout=60)[0])
        except OSError as e:
            results.append(type(e).__name__)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(500)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    tap.ok(len(results) == 500 and set(results) <= {200, 503} and results.count(200) >= 200, '500 at once: %d answered, %d told to come again' % (results.count(200), results.count(503)))
    tap.same(d.pg.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace gateway'"), '1', 'and it lives')


def part_slow(d):
    """http_header_timeout 1 s, http_idle_timeout 2 s."""
    out, took = d.raw(b'GET /hello HTTP/1.1\r\nHost: x\r\n', timeout=10)
    tap.ok(code(out) == 0 and .8 < took < 3, 'half a head is cut (%.1f s)' % took)
    out, took = d.raw(*[b'X'] * 40, pause=.1, timeout=10)
    tap.ok(code(out) == 0 and took < 5.5, 'a head letter by letter is (%.1f s)' % took)
    out, took = d.raw(d.head('POST', '/raw', 'Content-Length: 1000000'), *[b'x'] * 40, pause=.1, timeout=10)
    tap.ok(code(out) == 0 and took < 5.5, 'a body letter by letter is (%.1f s)' % took)
    out, took = d.raw(d.head('POST', '/raw', 'Content-Length: 200000', 'Connection: close'), *[b'x' * 10000] * 20, pause=.1, timeout=10)
    tap.ok(code(out) == 200, 'one that comes at 100 kB/s is not (%.1f s)' % took)
    out, took = d.raw(b'', timeout=10)
    tap.ok(.8 < took < 3, 'a connection that says nothing is cut (%.1f s)' % took)
    out, took = d.raw(d.head(), timeout=10)
    tap.ok(code(out) == 200 and 1.8 < took < 4, 'one that is kept is closed when it is idle (%.1f s)' % took)
    with socket.create_connection(('127.0.0.1', d.port)) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(d.head('GET', '/large?n=30000000'))
        time.sleep(.5)
        n = int(d.pg.value("SELECT count(*) FROM millrace.worker_status() WHERE kind = 'gateway'"))
        tap.same(d('GET', '/hello')[0], 200, 'a client that does not read holds nobody up')
    slow = [socket.create_connection(('127.0.0.1', d.port)) for _ in range(200)]
    for s in slow:
        s.sendall(b'GET /hello HTTP/1.1\r\nX-')
    took = []
    for _ in range(50):
        began = time.monotonic()
        d('GET', '/hello')
        took.append(time.monotonic() - began)
    tap.ok(sorted(took)[25] < .05, 'with 200 slow heads another is answered in %.1f ms' % (sorted(took)[25] * 1000))
    for s in slow:
        s.settimeout(5)
        with contextlib.suppress(OSError):
            while s.recv(1000):
                pass
        s.close()
    tap.ok(True, 'all of them are cut')
    tap.ok(d('POST', '/sleep', 's=2.5', {'Content-Type': 'application/x-www-form-urlencoded'})[0] == 200, 'a function may take longer than a head')


def part_queue(d):
    """Two executors, http_queue 3."""
    form = {'Content-Type': 'application/x-www-form-urlencoded'}
    results = []
    lock = threading.Lock()

    def ask(path, s):
        began = time.monotonic()
        got = d('POST', path, 's=%s' % s, form)
        with lock:
            results.append((got[0], got[1].get('Retry-After'), time.monotonic() - began))

    def all_at_once(*what):
        results.clear()
        threads = [threading.Thread(target=ask, args=w) for w in what]
        for t in threads:
            t.start()
            time.sleep(.03)
        for t in threads:
            t.join()
        return sorted(r[0] for r in results)
    tap.same(all_at_once(*[('/sleep', 1)] * 8), [200] * 5 + [503] * 3, 'two run, three wait, three are told to come again')
    tap.same({r[1] for r in results if r[0] == 503}, {'1'}, 'in a second')
    tap.same(all_at_once(*[('/short', .25)] * 5).count(200), 2, 'what waits too long is not begun')
    tap.same(d('POST', '/short', 's=5', form)[0], 503, 'what runs too long is ended')
    tap.same(all_at_once(('/alone', 1), ('/alone', 1), ('/sleep', .1)), [200] * 3, 'a route that runs alone')
    tap.ok(min(r[2] for r in results) < .8 and max(r[2] for r in results) > 1.8, 'lets others pass')
    running = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    for name, path in (('in the function', '/sleep'), ('waiting for its turn', '/alone')):
        socks = []
        for _ in range(2):
            s = socket.create_connection(('127.0.0.1', d.port))
            s.sendall(d.head('POST', path, 'Content-Type: application/x-www-form-urlencoded', 'Content-Length: 4') + b's=30')
            socks.append(s)
        until(lambda: int(d.pg.value(running)) > 0)
        for s in socks:
            s.close()
        tap.ok(until(lambda: int(d.pg.value(running)) == 0, 3), 'a client that goes away %s is noticed, and the function cancelled' % name)
    tap.same(d('POST', '/sleep', 's=0', form)[0], 200, 'the next request is not')
    for _ in range(30 if FULL else 10):
        s = socket.create_connection(('127.0.0.1', d.port))
        s.sendall(d.head('POST', '/sleep', 'Content-Type: application/x-www-form-urlencoded', 'Content-Length: 4') + b's=.2')
        time.sleep(.15)
        s.close()
        got = d('POST', '/sleep', 's=.02', form)[0]
        if got != 200:
            break
    tap.same(got, 200, 'nor by chance')
    pid = d.pg.value("SELECT pid FROM millrace.worker_status() WHERE kind = 'executor' ORDER BY name LIMIT 1")
    t = [threading.Thread(target=ask, args=('/sleep', 3)) for _ in range(2)]
    results.clear()
    for x in t:
        x.start()
    until(lambda: int(d.pg.value(running)) == 2)
    d.pg.psql('SELECT pg_terminate_backend(%s)' % pid)
    for x in t:
        x.join()
    tap.same(sorted(r[0] for r in results), [200, 503], 'an executor that is ended: 503')
    tap.ok(until(lambda: d.pg.value("SELECT count(*) FROM millrace.worker_status() WHERE kind = 'executor' AND state = 'running'") == '2', 15), 'and another comes')
    tap.same(all_at_once(*[('/sleep', .5)] * 2), [200, 200], 'which has its box')


def part_polls(d):
    pg = d.pg
    form = {'Content-Type': 'application/x-www-form-urlencoded'}

    def later(ident, seconds):
        time.sleep(seconds)
        pg.psql("INSERT INTO w.done VALUES ('%s', now())" % ident)
    t = threading.Thread(target=later, args=('a', .7))
    t.start()
    began = time.monotonic()
    status, _, text = d('POST', '/ask', 'id=a', form)
    took = time.monotonic() - began
    t.join()
    tap.ok((status, json.loads(text)) == (200, {'id': 'a', 'status': 'done'}) and .6 < took < 4, 'an answer that comes later (%.2f s)' % took)
    began = time.monotonic()
    status, _, text = d('POST', '/ask', 'id=b&within=500', form)
    took = time.monotonic() - began
    tap.ok((status, json.loads(text)) == (202, {'id': 'b', 'status': 'pending'}) and .4 < took < 3, 'one that does not come in time (%.2f s)' % took)
    results = []
    threads = [threading.Thread(target=lambda i=i: results.append(d('POST', '/ask', 'id=c%d&within=20000' % i, form, timeout=40)[0])) for i in range(30)]
    for t in threads:
        t.start()
    time.sleep(1)
    began = time.monotonic()
    tap.ok(d('GET', '/hello')[0] == 200 and time.monotonic() - began < .5, 'thirty that wait hold nobody up')
    tap.same(pg.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace executor' AND state = 'idle in transaction'"), '0', 'nor a transaction open')
    pg.psql("INSERT INTO w.done SELECT 'c' || i, now() FROM generate_series(0, 29) i")
    for t in threads:
        t.join()
    tap.same(results, [200] * 30, 'and are all answered')


class Events:
    """A stream of events, read line by line."""

    def __init__(self, d, path='/watch', token=None):
        self.c = d.connect(timeout=30)
        self.c.request('GET', path, headers={'Authorization': 'Bearer ' + (token or d.token)})
        self.r = self.c.getresponse()

    def next(self):
        while True:
            line = self.r.readline()
            if not line:
                return None
            if line.startswith(b'data: '):
                return json.loads(line[6:])

    def close(self):
        self.r.close()
        self.c.close()


def part_streams(d):
    """http_max_streams 5."""
    pg = d.pg
    e = Events(d)
    tap.same((e.r.status, e.r.headers['Content-Type'], e.r.headers['Cache-Control']), (200, 'text/event-stream', 'no-store'), 'a stream of events')
    tap.same(e.next(), {'x': 1}, 'begins with what is')
    pg.psql('UPDATE w.state SET x = 2')
    tap.same(e.next(), {'x': 2}, 'and goes on with what changed')
    time.sleep(.5)
    pg.psql('UPDATE w.state SET x = 3')
    tap.same(e.next(), {'x': 3}, 'once')
    more = [Events(d) for _ in range(4)]
    for m in more:
        m.next()
    tap.same(d('GET', '/watch')[0], 503, 'as many as there may be')
    tap.same(d('HEAD', '/watch')[0], 503, 'HEAD counts as one that would be')
    tap.same(d('GET', '/hello')[0], 200, 'others are answered')
    for m in more[1:]:
        m.close()
    brief = pg.value("SELECT millrace.create_api_token('stream', 'web')")
    tap.ok(until(lambda: d('GET', '/hello', token=brief)[0] == 200), 'a token')
    held = []

    def again():
        s = Events(d, token=brief)
        if s.r.status == 200:
            held.append(s)
            return True
        s.close()
        return False
    tap.ok(until(again, 5), 'places of those who left are free again')
    held[0].next()
    pg.psql("SELECT millrace.revoke_api_token('stream')")
    pg.psql('UPDATE w.state SET x = 4')
    began = time.monotonic()
    while held[0].next() is not None:
        pass
    tap.ok(time.monotonic() - began < 8, 'a stream ends with its token')
    while e.next() != {'x': 4}:
        pass
    tap.ok(True, 'those of others go on')
    for s in held + [e, more[0]]:
        s.close()
    tap.ok(until(lambda: int(pg.value("SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions")) >= 0, 1), 'nothing is left')


def part_settings(d):
    """http_anonymous anon, http_allow_origin, http_max_connections 40, http_max_connections_per_address 25, http_max_body 8 MB."""
    pg = d.pg
    tap.same(d.json('GET', '/hello', token=None), (200, {'hello': 'world', 'role': 'anon'}), 'without a token as the anonymous role')
    tap.same(d.json('GET', '/open', token=None)[1]['role'], 'anon', 'open routes, too')
    tap.same([d('GET', p, token=None)[0] for p in ('/boss', '/nobody')], [401, 401], 'what it may not is asked a token for')
    tap.same(d('GET', '/watch', token=None)[0], 401, 'so is what its rights do not reach')
    tap.same(d('GET', '/hello', token='wrong')[0], 401, 'a wrong token is not taken for none')
    pg.psql('ALTER ROLE anon SUPERUSER')
    tap.ok(until(lambda: d('GET', '/hello', token=None)[0] == 401, 12), 'an anonymous role that became a superuser is none')
    tap.ok(until(lambda: 'superuser' in (pg.value("SELECT reason FROM millrace.worker_status() WHERE kind = 'gateway'") or ''), 12), 'and that is told')
    pg.psql('ALTER ROLE anon NOSUPERUSER')
    tap.ok(until(lambda: d('GET', '/hello', token=None)[0] == 200, 12), 'until it is well again')
    mine = {'Origin': 'https://app.example'}
    status, headers, _ = d('OPTIONS', '/scoped', headers={**mine, 'Access-Control-Request-Method': 'POST'}, token=None)
    tap.same((status, headers['Access-Control-Allow-Origin'], headers['Access-Control-Allow-Methods'], 'Authorization' in headers['Access-Control-Allow-Headers']),
             (204, 'https://app.example', 'GET, HEAD, POST, OPTIONS', True), 'a preflight of the origin that may')
    tap.same([d('GET', p, headers=mine)[1]['Access-Control-Allow-Origin'] for p in ('/hello', '/nix')], ['https://app.example'] * 2, 'answers and errors say so')
    tap.same([d('GET', '/hello', headers={'Origin': o})[1].get('Access-Control-Allow-Origin') for o in ('https://evil.example', 'null')], [None, None], 'and to nobody else')
    tap.same(d('GET', '/hello', headers=mine)[1]['Vary'], 'Origin', 'caches are told')
    time.sleep(.5)
    socks = []
    for _ in range(30):
        socks.append(socket.create_connection(('127.0.0.1', d.port), timeout=5))
    time.sleep(.5)
    alive = 0
    for s in socks:
        s.settimeout(.2)
        try:
            alive += s.recv(1) != b''
        except TimeoutError:
            alive += 1
        except OSError:
            pass
        s.close()
    tap.same(alive, 25, 'connections of one address')
    tap.ok(until(lambda: d('GET', '/hello')[0] == 200, 5), 'which it may have anew')
    told = dict(pg.psql('SELECT event, count FROM millrace.stat_gateway_events'))
    tap.ok(int(told['connections']) > 30 and int(told['unauthorized']) >= 4, 'events are counted: %s' % told)
    before = int(pg.value("SELECT coalesce(sum(requests), 0) FROM millrace.stat_gateway WHERE route = '/hello/{name}'"))
    for i in range(20):
        d('GET', '/hello/%d' % i)
    tap.ok(until(lambda: int(pg.value("SELECT sum(requests) FROM millrace.stat_gateway WHERE route = '/hello/{name}' AND method = 'GET' AND status = '2xx'")) == before + 20, 3),
           "requests are counted by their route's pattern")
    pid = d.pid()

    def resident():
        return int(re.search(r'VmRSS:\s+(\d+)', pathlib.Path('/proc/%s/status' % pid).read_text()).group(1)) / 1024
    pg.psql("SELECT pg_reload_conf()")
    began, most = resident(), 0
    socks = []
    for i in range(24):
        s = socket.create_connection(('127.0.0.1', d.port), timeout=5)
        s.sendall(d.head('POST', '/huge', 'Content-Length: 30000000'))
        with contextlib.suppress(OSError):
            for _ in range(18):
                s.sendall(b'x' * 1000000)
        socks.append(s)
        most = max(most, resident())
    tap.ok(most - began < 330, 'bodies of 432 MB at once: %.0f MB of memory' % (most - began))
    socks[0].close()
    for s in socks[1:]:
        s.close()
    tap.ok(until(lambda: d('POST', '/huge', b'x' * 29000000)[0] == 200, 10), 'and there is room again')


def part_pipelines(d):
    """d.other is the port of a listener of pipeline "pipe one" alone."""
    one = Door(d.pg, d.other, d.token)
    tap.same([d('GET', p)[0] for p in ('/one/status/x', '/status/x')], [200, 404], "a pipeline's routes under their prefix")
    tap.same([one('GET', p)[0] for p in ('/status/x', '/one/status/x', '/hello')], [200, 404, 404], 'and without it where it listens alone')
    tap.same(d.json('GET', '/told')[1]['headers'].get(':pipeline'), None, 'no pipeline is told on the common address')


def part_tls(pg, port, token):
    """Certificate and key given."""
    cert = TMP / 'tls' / 'cert.pem'
    key = pg.data / 'gateway.key'
    context = ssl.create_default_context(cafile=str(cert))
    d = Door(pg, port, token, context)
    d.wait()
    status, text = d.json('GET', '/hello')
    tap.same((status, text['role']), (200, 'web'), 'over TLS')
    big = os.urandom(2000000)
    tap.same(json.loads(d('POST', '/raw', big, {'Content-Type': 'image/png'})[2])['md5'], hashlib.md5(big).hexdigest(), 'two megabytes')
    tap.same(d('GET', '/large?n=3000000')[2], 'x' * 3000000, 'three back')
    with contextlib.closing(d.connect()) as c:
        for i in range(300):
            c.request('GET', '/hello?name=%d' % i, headers={'Authorization': 'Bearer ' + token})
            r = c.getresponse()
            last = json.loads(r.read())['hello']
        tap.same(last, '299', '300 on one connection')
    out, _ = d.raw(b'GET /hello HTTP/1.1\r\nHost: x\r\n\r\n', timeout=15)
    tap.ok(not out.startswith(b'HTTP'), 'plain HTTP is not answered')
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(ValueError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                old.minimum_version = ssl.TLSVersion.TLSv1
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            with socket.create_connection(('127.0.0.1', port), timeout=5) as s, old.wrap_socket(s):
                tap.ok(False, 'TLS 1.1 is refused')
        except (OSError, ssl.SSLError):
            tap.ok(True, 'TLS 1.1 is refused')
    s = socket.create_connection(('127.0.0.1', port), timeout=15)
    s.sendall(b'\x16\x03\x01')
    tap.same(d('GET', '/hello')[0], 200, 'a handshake that stops holds nobody up')
    began = time.monotonic()
    with contextlib.suppress(OSError):
        s.recv(10)
    tap.ok(time.monotonic() - began < 4, 'and is cut')
    s.close()
    key.chmod(0o644)
    pg.psql("ALTER SYSTEM SET millrace.http_header_timeout = '1100ms'")
    pg.reload()
    why = "SELECT reason FROM millrace.worker_status() WHERE kind = 'gateway'"
    tap.ok(until(lambda: 'group or world access' in (pg.value(why) or ''), 15), 'a key that others may read is not used: %s' % pg.value(why))
    key.chmod(0o600)
    d.wait(90)
    tap.ok(True, 'and is, once they may not')


def part_life(d):
    pg = d.pg
    form = {'Content-Type': 'application/x-www-form-urlencoded'}

    def cpu():
        out = 0
        for pid in (r[0] for r in pg.psql("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'millrace %' AND backend_type IN ('millrace gateway', 'millrace executor')")):
            f = pathlib.Path('/proc/%s/stat' % pid).read_text().rsplit(')', 1)[1].split()
            out += int(f[11]) + int(f[12])
        return out / os.sysconf('SC_CLK_TCK')
    before = cpu()
    time.sleep(10)
    tap.ok(cpu() - before < .1, 'at rest it uses %.1f %% of a core' % ((cpu() - before) * 10))
    lock = psycopg.connect(pg.dsn(), autocommit=True)
    lock.execute('BEGIN')
    lock.execute("COMMENT ON EXTENSION millrace IS 'x'")
    tap.same(d('GET', '/hello')[0], 200, 'it answers while the extension is altered')
    lock.execute('ROLLBACK')
    lock.close()
    def long(seconds):
        with contextlib.suppress(OSError, http.client.HTTPException):
            d('POST', '/sleep', 's=%d' % seconds, form)
    t = threading.Thread(target=long, args=(3,))
    t.start()
    time.sleep(.3)
    pid = d.pid()
    began = time.monotonic()
    pg.psql("ALTER SYSTEM SET millrace.http_max_body = '1MB'")
    pg.reload()
    ended = until(lambda: d.pid() not in (pid, None), 15)
    t.join()
    tap.ok(ended, 'a setting changed: the gateway begins anew')
    d.wait()
    tap.same(d('POST', '/raw', b'x' * 1500000)[0], 413, 'with it')
    pid = d.pid()
    pg.psql('SELECT pg_terminate_backend(%s)' % pid)
    tap.ok(until(lambda: d.pid() not in (pid, None), 20), 'ended from outside, it comes again')
    d.wait()
    blocker = socket.socket()
    port = free_port()
    blocker.bind(('127.0.0.1', port))
    blocker.listen()
    pg.psql("ALTER SYSTEM SET millrace.http_listen = '127.0.0.1:%d, 127.0.0.1:%d'" % (d.port, port))
    pg.reload()
    why = "SELECT reason FROM millrace.worker_status() WHERE kind = 'gateway'"
    tap.ok(until(lambda: 'cannot listen on 127.0.0.1, port %d' % port in (pg.value(why) or ''), 15), 'an address in use is told: %s' % pg.value(why))
    blocker.close()
    d.wait(90)
    tap.ok(True, 'and taken when it is free')
    pg.psql("ALTER SYSTEM SET millrace.http_listen = ''")
    pg.reload()
    tap.ok(until(lambda: pg.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('millrace gateway', 'millrace executor')") == '0', 15), 'without an address there is no gateway')
    pg.psql("ALTER SYSTEM SET millrace.http_listen = '127.0.0.1:%d'" % d.port)
    pg.reload()
    d.wait(30)
    t = threading.Thread(target=long, args=(20,))
    t.start()
    time.sleep(.5)
    took = pg.stop()
    t.join()
    tap.ok(took < 3, 'the server stops in %.1f s' % took)
    pg.start()
    d.wait(30)
    tap.ok(True, 'and the gateway is there when it starts')
    streams = [Events(d) for _ in range(2)]
    began = time.monotonic()
    pg.psql('DROP EXTENSION millrace CASCADE')
    tap.ok(time.monotonic() - began < 5, 'the extension is dropped in %.1f s' % (time.monotonic() - began))
    tap.ok(until(lambda: pg.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('millrace gateway', 'millrace executor')") == '0', 15), 'and the gateway ends')
    for s in streams:
        s.close()
    told = pg.logs()
    tap.ok('PANIC' not in told and 'terminated by signal' not in told and d.token not in told, 'no process crashed, and the token is not in the log')


def part_database(pg, port):
    """Another database has a gateway of its own; DROP DATABASE ends it."""
    pg.psql('CREATE DATABASE second')
    pg.psql('CREATE EXTENSION millrace; CREATE FUNCTION f() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_database()::text $$;'
            "SELECT millrace.create_route('GET', '/db', 'f()', '{\"open\": true}')", db='second')
    pg.psql("ALTER DATABASE second SET millrace.http_listen = '127.0.0.1:%d'" % port)
    pg.psql('SELECT millrace.start()', db='second')
    d = Door(pg, port, 'x')

    def there():
        try:
            return d('GET', '/db', token=None)[2] == 'second'
        except OSError:
            return False
    tap.ok(until(there, 30), 'a second database answers on an address of its own')
    began = time.monotonic()
    try:
        pg.psql('DROP DATABASE second WITH (FORCE)')
        gone = True
    except SqlError as e:
        tap.note(str(e))
        gone = False
    tap.ok(gone and time.monotonic() - began < 10, 'and is dropped in %.1f s' % (time.monotonic() - began))


def make_certificate():
    folder = TMP / 'tls'
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '30', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
                    '-keyout', folder / 'key.pem', '-out', folder / 'cert.pem'], check=True, stderr=subprocess.DEVNULL)
    return folder


@contextlib.contextmanager
def server(name, **settings):
    port, other = free_port(), free_port()
    conf = {'shared_preload_libraries': 'millrace', 'max_worker_processes': 24, 'millrace.http_listen': '127.0.0.1:%d, pipe one=127.0.0.1:%d' % (port, other)}
    conf.update({'millrace.' + k: v for k, v in settings.items()})
    with Cluster(find_pg_config(), TMP / name, conf=conf) as pg:
        pg.psql('CREATE EXTENSION millrace')
        pg.psql(SETUP)
        pg.psql('SELECT millrace.start()')
        d = Door(pg, port, pg.value("SELECT millrace.create_api_token('web', 'web')"))
        d.other = other
        yield d


def main():
    wanted = sys.argv[1:]

    def want(*names):
        return not wanted or any(n in wanted for n in names)
    if want('requests', 'tokens', 'bodies', 'connections', 'polls', 'pipelines', 'database', 'life'):
        with server('a') as d:
            d.wait()
            for name in ('requests', 'tokens', 'bodies', 'connections', 'polls', 'pipelines'):
                if want(name):
                    tap.note(name)
                    globals()['part_' + name](d)
            if want('database'):
                part_database(d.pg, free_port())
            if want('life'):
                part_life(d)
    if want('settings'):
        with server('c', http_anonymous='anon', http_allow_origin='https://app.example', http_max_connections=40, http_max_connections_per_address=25) as d:
            d.wait()
            part_settings(d)
    if want('slow', 'queue', 'streams', 'tls'):
        with server('b', http_header_timeout='1s', http_idle_timeout='2s', http_queue=3, http_max_streams=5) as d:
            d.wait()
            for name in ('slow', 'queue', 'streams'):
                if want(name):
                    tap.note(name)
                    globals()['part_' + name](d)
            if want('tls'):
                folder = make_certificate()
                key = d.pg.data / 'gateway.key'
                key.write_bytes((folder / 'key.pem').read_bytes())
                key.chmod(0o600)
                if unprivileged():
                    import pwd
                    os.chown(key, pwd.getpwnam(unprivileged()).pw_uid, -1)
                d.pg.psql("ALTER SYSTEM SET millrace.http_tls_key = 'gateway.key'")
                d.pg.psql("ALTER SYSTEM SET millrace.http_tls_certificate = '%s'" % (folder / 'cert.pem'))
                d.pg.reload()
                part_tls(d.pg, d.port, d.token)
    tap.done()


if __name__ == '__main__':
    main()
