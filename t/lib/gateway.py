"""The gateway under test: a cluster with routes of all kinds, and ways to ask it over real sockets.

    with server('test_x', 'a', http_queue=3) as d:        # a Door; d.other: port of a listener of pipeline "pipe one" alone
        status, headers, text = d('GET', '/hello')
"""
import contextlib
import http.client
import json
import re
import socket
import time

from .cluster import free_port
from .web import gateway, token, until

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
        millrace.create_route('POST', '/sleep', 'w.sleep(float8)'), millrace.create_route('POST', '/short', 'w.sleep(float8)', '{"timeout_ms": 1000}'),
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
            try:
                for p in pieces:
                    s.sendall(p)
                    time.sleep(pause)
                if half:
                    s.shutdown(socket.SHUT_WR)
            except OSError:
                pass                # what came back before it was closed is still there
            return rest(s), time.monotonic() - began

    def head(self, method='GET', path='/hello', *lines):
        return ('%s %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n' % (method, path, self.token, ''.join(l + '\r\n' for l in lines))).encode()

    def wait(self, seconds=30):
        def answers():
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self('GET', '/hello', timeout=5)[0] == 200
        if not until(answers, seconds):
            raise RuntimeError('the gateway does not answer: %s' % (self.pg.psql('SELECT kind, name, state, reason FROM millrace.worker_status()'),))

    def pid(self):
        return self.pg.value("SELECT pid FROM millrace.worker_status() WHERE kind = 'gateway'")


def rest(s):
    """What comes from a socket until the other side closes, or the name of the error that ended it."""
    out = b''
    try:
        while got := s.recv(65536):
            out += got
    except OSError as e:
        out += b'<' + type(e).__name__.encode() + b'>'
    return out


def code(answer):
    """Status of a raw answer; 0: none."""
    m = re.match(rb'HTTP/1\.[01] (\d+) ', answer)
    return int(m.group(1)) if m else 0


class Events:
    """A stream of events, read line by line."""

    def __init__(self, d, path='/watch', token=None):
        self.c = d.connect(timeout=30)
        self.c.request('GET', path, headers={'Authorization': 'Bearer ' + (token or d.token)})
        self.r = self.c.getresponse()

    def next(self, seconds=30):
        """Data of the next event; None: the stream ended, or told nothing new."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            line = self.r.readline()
            if not line:
                return None
            if line.startswith(b'data: '):
                return json.loads(line[6:])

    def close(self):
        self.r.close()
        self.c.close()


@contextlib.contextmanager
def server(name, at, **settings):
    """A Door that answers, to a cluster with these millrace.* settings in folder at of the test."""
    other = free_port()
    conf = {'millrace.' + k: v for k, v in settings.items()}
    with gateway(name, SETUP, conf, at, listen='127.0.0.1:%d, pipe one=127.0.0.1:' + str(other)) as (pg, port):
        d = Door(pg, port, token(pg, 'web'))
        d.other = other
        d.wait()
        yield d
