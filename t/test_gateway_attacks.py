#!/usr/bin/env python3
# timeout: 900
"""What the network sends on purpose: SQL, format strings, paths, headers and bodies made to break things, in every field of every route
that OpenAPI tells of; and what the other sessions notice of a flood.

Nothing may answer 5xx (but 503 with Retry-After), nothing may crash, no row may be seen that the token's role may not see.
"""
import http.client
import json
import os
import random
import socket
import statistics
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.gateway import Door, code
from lib.web import Web, gateway, token
import psycopg

FULL = bool(os.environ.get('MILLRACE_FULL'))

NASTY = [
    "' OR 1=1 --", "'; DROP TABLE canary; --", '"; DROP TABLE canary; --', '$$; DROP TABLE canary; $$', "\\'; SELECT pg_sleep(30); --", "1); DELETE FROM secrets; --",
    "' UNION SELECT secret FROM secrets --", '%s%s%s%n%n', '{{7*7}}', '${jndi:ldap://127.0.0.1/a}', '../../../../etc/passwd', '..%2f..%2fetc%2fpasswd',
    'file:///etc/passwd', 'x' * 5000, '\u202e\u0000'.replace('\u0000', ''), '\U0001f600' * 100, '-1', '0', '1e999', 'NaN', 'Infinity', '-9223372036854775809', '1' * 400,
    '{', '[]', '{}', 'null', 'true', '{"a":' * 50, '[' * 500, '<script>alert(1)</script>', '\r\nX-Evil: 1', ' ', '', '\\x00', "E'\\\\x41'", 'pg_sleep(30)', '{1,2', '(1,2)', '=cmd()',
    'select', 'public.secrets', "millrace.api_tokens", '\ufffe', 'a\tb\nc', '%', '%%', '_', '\\', '/', '?a=b&c=d', '#x']

SETUP = """
    CREATE ROLE web; CREATE ROLE other;
    CREATE TABLE canary (x int); INSERT INTO canary VALUES (42);
    CREATE TABLE secrets (owner name, secret text);
    INSERT INTO secrets VALUES ('web', 'mine'), ('other', 'THE-OTHERS-SECRET');
    ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON secrets USING (owner = current_user);
    GRANT SELECT ON secrets TO web, other;
    CREATE FUNCTION find(word text, n int DEFAULT 10) RETURNS SETOF secrets LANGUAGE sql STABLE AS
        'SELECT * FROM public.secrets WHERE secret LIKE word LIMIT n';
    CREATE FUNCTION typed(a int, b bigint, c real, d numeric, e timestamptz, f uuid, g jsonb, h text[], i boolean, j real[], k bytea DEFAULT NULL) RETURNS jsonb
        LANGUAGE sql STABLE AS 'SELECT jsonb_build_object(''a'', a, ''h'', h)';
    CREATE FUNCTION whole(body jsonb) RETURNS jsonb LANGUAGE sql STABLE AS 'SELECT jsonb_build_object(''type'', jsonb_typeof(body))';
    CREATE FUNCTION raw(body bytea) RETURNS int LANGUAGE sql STABLE AS 'SELECT octet_length(body)';
    CREATE FUNCTION take(file bytea, file_name text DEFAULT NULL, file_type text DEFAULT NULL, note text DEFAULT NULL) RETURNS jsonb LANGUAGE sql STABLE AS
        'SELECT jsonb_build_object(''n'', octet_length(file), ''name'', file_name, ''note'', note)';
    CREATE FUNCTION headers() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('request.headers') $$;
    CREATE FUNCTION evil_header(v text) RETURNS millrace.http_response LANGUAGE sql AS
        $$ SELECT millrace.respond(200, '{}', jsonb_build_object('X-Told', v)) $$;
    SELECT millrace.create_route('GET', '/find/{word}', 'find(text, int)');
    SELECT millrace.create_route('POST', '/find', 'find(text, int)', '{"read_only": true}');
    SELECT millrace.create_route('POST', '/typed', 'typed(int, bigint, real, numeric, timestamptz, uuid, jsonb, text[], boolean, real[], bytea)', '{"body": ["json", "form", "multipart"]}');
    SELECT millrace.create_route('GET', '/typed', 'typed(int, bigint, real, numeric, timestamptz, uuid, jsonb, text[], boolean, real[], bytea)');
    SELECT millrace.create_route('POST', '/whole', 'whole(jsonb)', '{"body": ["json"]}');
    SELECT millrace.create_route('POST', '/raw', 'raw(bytea)', '{"body": ["raw"]}');
    SELECT millrace.create_route('POST', '/take', 'take(bytea, text, text, text)', '{"body": ["multipart"]}');
    SELECT millrace.create_route('GET', '/headers', 'headers()');
    SELECT millrace.create_route('POST', '/evil', 'evil_header(text)');
"""


class Attacker(Web):
    """A Web whose requests may be so wrong that there is no answer."""

    def __call__(self, method, path, body=None, headers=None):
        """raw(); status 0: cut without an answer, allowed for what is no HTTP; None: http.client itself would not send that."""
        try:
            return self.raw(method, path, body, headers)
        except ConnectionError:
            return 0, b'', {}
        except (ValueError, http.client.InvalidURL):
            return None, b'', {}

    def json(self, path, value):
        return self('POST', path, json.dumps(value), {'Content-Type': 'application/json'})


class Judge:
    def __init__(self, pg):
        self.pg, self.bad, self.n = pg, [], 0

    def see(self, what, answer):
        status, body, headers = answer
        self.n += 1
        if status is None:
            return
        # 505: a version of HTTP that is none
        if status >= 500 and status != 505 and not (status == 503 and headers.get('Retry-After')):
            self.bad.append((what, status, body[:200]))
        if b'THE-OTHERS-SECRET' in body:
            self.bad.append((what, 'leak', body[:200]))
        if headers and headers.get('X-Evil'):
            self.bad.append((what, 'header injected', body[:200]))
        if status >= 400 and headers.get('Content-Type', '').startswith('application/json'):
            told = json.loads(body)
            if not ({'code', 'message'} <= set(told)):
                self.bad.append((what, 'no error body', body[:200]))

    def verdict(self, name):
        if not tap.ok(not self.bad, '%s (%d requests)' % (name, self.n)):
            for b in self.bad[:10]:
                tap.note(repr(b)[:500])
        self.bad, self.n = [], 0


def fields(d, judge):
    ask, nobody = Attacker(d.port, d.token), Attacker(d.port)
    for bad in NASTY:
        q = urllib.parse.quote(bad, safe='')
        judge.see(('path', bad), ask('GET', '/find/' + q))
        judge.see(('path raw', bad), ask('GET', '/find/' + bad.encode('utf-8', 'ignore').decode('latin-1', 'ignore')))
        judge.see(('query', bad), ask('GET', '/find/a?n=' + q))
        judge.see(('query name', bad), ask('GET', '/find/a?' + q + '=1'))
        judge.see(('header', bad), ask('GET', '/headers', headers={'X-Test': bad.encode('utf-8', 'ignore').decode('latin-1')}))
        judge.see(('json', bad), ask.json('/find', {'word': bad}))
        judge.see(('json name', bad), ask.json('/find', {bad: 1, 'word': 'a'}))
        judge.see(('whole', bad), ask.json('/whole', [bad, {bad: bad}]))
        judge.see(('no json', bad), ask('POST', '/whole', bad.encode('utf-8', 'ignore'), {'Content-Type': 'application/json'}))
        judge.see(('raw', bad), ask('POST', '/raw', bad.encode('utf-8', 'ignore'), {'Content-Type': 'application/octet-stream'}))
        judge.see(('out header', bad), ask.json('/evil', {'v': bad}))
        judge.see(('form', bad), ask('POST', '/typed', 'a=%s&%s=2' % (q, q), {'Content-Type': 'application/x-www-form-urlencoded'}))
        judge.see(('token', bad), nobody('GET', '/find/a', headers={'Authorization': 'Bearer ' + bad.encode('utf-8', 'ignore').decode('latin-1')}))
        judge.see(('basic', bad), nobody('GET', '/find/a', headers={'Authorization': 'Basic ' + bad.encode('utf-8', 'ignore').decode('latin-1')}))
        judge.see(('type', bad), ask('POST', '/whole', '{}', {'Content-Type': bad.encode('utf-8', 'ignore').decode('latin-1')}))
        for part in ('file', 'note', bad):
            mark = 'b' + str(random.getrandbits(40))
            body = ('--%s\r\nContent-Disposition: form-data; name="%s"; filename="%s"\r\nContent-Type: %s\r\n\r\n%s\r\n--%s--\r\n'
                    % (mark, part, bad, bad[:50], bad, mark)).encode('utf-8', 'ignore')
            judge.see(('part', part, bad), ask('POST', '/take', body, {'Content-Type': 'multipart/form-data; boundary=' + mark}))
        for name in 'abcdefghij':
            judge.see(('typed ' + name, bad), ask.json('/typed', {**dict.fromkeys('abcdefghij'), name: bad}))
            judge.see(('query ' + name, bad), ask('GET', '/typed?' + name + '=' + q))
    judge.verdict('hostile values in every field')
    for value in (None, True, 0, -1, 1.5, 1e308, [], [[]], {}, {'a': {}}, '', [None], [1, 'a'], 10 ** 40, {'body': 1}):
        for path in ('/find', '/typed', '/whole', '/evil'):
            judge.see((path, value), ask.json(path, value))
            for name in 'abcdefghij':
                judge.see((path, name, value), ask.json(path, {**dict.fromkeys('abcdefghij'), 'word': 'a', 'v': 'x', name: value}))
    judge.verdict('values of other types')


def bytes_of_all_kinds(d, judge):
    rng = random.Random(10)
    good = ('POST /whole HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{"a":1}' % d.token).encode()
    fixed = [b'\x00' * 100, b'GET\r\n\r\n', b'GET / HTTP/9.9\r\n\r\n', b'GET /find/a HTTP/1.1\r\n\r\n', b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + b'a' * 64,
             b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', b'GET http://evil/ HTTP/1.1\r\nHost: a\r\n\r\n', b'CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n', b'BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n',
             b'GET //find//a HTTP/1.1\r\nHost: a\r\n\r\n', b'GET /find/%00 HTTP/1.1\r\nHost: a\r\n\r\n', b'GET /find/%zz HTTP/1.1\r\nHost: a\r\n\r\n', b'GET /find/%ff%fe HTTP/1.1\r\nHost: a\r\n\r\n',
             b'GET /find/../find/a HTTP/1.1\r\nHost: a\r\n\r\n', b'GET /find/%2e%2e/a HTTP/1.1\r\nHost: a\r\n\r\n',
             good.replace(b'Content-Length: 7', b'Content-Length: 7\r\nContent-Length: 9'), good.replace(b'Content-Length: 7', b'Content-Length: -1'),
             good.replace(b'Content-Length: 7', b'Content-Length: 99999999999999999999'), good.replace(b'Content-Length: 7', b'Transfer-Encoding: chunked\r\nContent-Length: 7'),
             good.replace(b'Content-Length: 7\r\n\r\n{"a":1}', b'Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n'),
             good.replace(b'Content-Length: 7\r\n\r\n{"a":1}', b'Transfer-Encoding: chunked\r\n\r\nzz\r\n'), good.replace(b'{"a":1}', b'{"\xff":1'),
             good.replace(b'Host: a', b'Host: ' + b'a' * 100000), good.replace(b'Host: a', b'\r\n'.join(b'X-%d: y' % i for i in range(5000)))]
    for data in fixed:
        judge.see((data[:80],), (code(d.raw(data, timeout=2)[0]), b'', {}))
    judge.verdict('requests that are none')
    for _ in range(3000 if FULL else 400):
        data = bytearray(good)
        for _ in range(rng.choice((1, 2, 5, 20))):
            at = rng.randrange(len(data))
            kind = rng.random()
            if kind < .5:
                data[at] = rng.randrange(256)
            elif kind < .75:
                del data[at:at + rng.randrange(1, 8)]
            else:
                data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 8)))
        out, _ = d.raw(bytes(data) + b'\r\n\r\n', timeout=.2)
        judge.see((bytes(data),), (code(out), out if b'THE-OTHERS' in out else b'', {}))
    judge.verdict('requests mutated at random')


def others(d):
    """What a session notices that does its own work: 500 connections that dribble, wrong tokens, requests refused, in rounds with quiet ones."""
    db = psycopg.connect(d.pg.dsn(), autocommit=True)
    work = 'SELECT sum(sqrt(i)) FROM generate_series(1, 150000) i'
    stop, attack = threading.Event(), threading.Event()

    def flood():
        while not stop.is_set():
            if not attack.wait(.1):
                continue
            socks = []
            for _ in range(500):
                try:
                    s = socket.create_connection(('127.0.0.1', d.port), timeout=5)
                    s.sendall(b'POST /whole HTTP/1.1\r\nHost: a\r\nX-Slow: ')
                    socks.append(s)
                except OSError:
                    break
            wrong = Attacker(d.port, 'mr_wrong')
            while attack.is_set() and not stop.is_set():
                for s in socks[::5]:
                    try:
                        s.send(b'a')
                    except OSError:
                        pass
                for _ in range(20):
                    wrong('GET', '/find/a')
                time.sleep(.1)
            for s in socks:
                s.close()

    t = threading.Thread(target=flood)
    t.start()

    def measure(n):
        took = []
        for _ in range(n):
            a = time.perf_counter()
            db.execute(work)
            took.append(time.perf_counter() - a)
        return statistics.median(took)

    try:
        measure(20)
        ratios = []
        for _ in range(21 if FULL else 5):
            quiet = measure(20)
            attack.set()
            time.sleep(1)
            ratios.append(measure(20) / quiet)
            attack.clear()
            time.sleep(.5)
        ratio = statistics.median(ratios)
        tap.note('under attack a query of another session takes %.3f of its time (median of %s)' % (ratio, ' '.join('%.2f' % r for r in sorted(ratios))))
        if FULL:
            tap.ok(ratio <= 1.10, 'other sessions keep their speed within 10 %')
        else:
            tap.ok(ratio <= 2, 'other sessions go on')
    finally:
        stop.set()
        t.join()
        db.close()


def main():
    with gateway('test_gateway_attacks', SETUP, {'millrace.http_header_timeout': '3s'}) as (pg, port):
        d = Door(pg, port, token(pg, 'web'))
        web = Web(port, d.token)
        web.until('/find/mine')
        status, rows = web.get('/find/%25')
        tap.same((status, [r['secret'] for r in rows]), (200, ['mine']), 'row-level security: a role sees its own rows')
        before = pg.value('SELECT pg_postmaster_start_time()'), pg.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace gateway'")
        pid = d.pid()
        judge = Judge(pg)
        fields(d, judge)
        bytes_of_all_kinds(d, judge)
        others(d)
        tap.same(pg.value('SELECT x FROM canary'), '42', 'the canary lives')
        tap.same(pg.value('SELECT count(*) FROM secrets'), '2', 'no row was lost')
        tap.same((pg.value('SELECT pg_postmaster_start_time()'), pg.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace gateway'")), before,
                 'the server never restarted')
        tap.same(d.pid(), pid, 'nor did the gateway')
        tap.same(web.get('/find/mine')[0], 200, 'and it still answers')
        told = pg.logs()
        tap.ok('THE-OTHERS-SECRET' not in told and d.token not in told, 'neither secrets nor tokens are in the log')
        tap.ok('PANIC' not in told and 'terminated by signal' not in told, 'no process crashed')
    tap.done()


if __name__ == '__main__':
    main()
