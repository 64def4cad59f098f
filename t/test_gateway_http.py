#!/usr/bin/env python3
# timeout: 900
# takes: 70
"""The gateway over real sockets: requests and answers, tokens, bodies of all kinds, connections, answers that come later, settings.
A part's name as argument runs that part alone.
"""
import base64
import contextlib
import hashlib
import json
import os
import pathlib
import re
import socket
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.gateway import Door, code, rest, server
from lib.web import multipart, until
import psycopg

NAME = 'test_gateway_http'
FULL = bool(os.environ.get('MILLRACE_FULL'))


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


def part_bodies(d):
    tap.same(d.json('POST', '/echo', {'a': [1, None, 'é']}), (200, {'a': [1, None, 'é']}), 'JSON')
    tap.same(d('POST', '/form', 'a=1+2&b=%C3%A9', {'Content-Type': 'application/x-www-form-urlencoded; charset=UTF-8'})[2], '1 2 é', 'a form')
    tap.same(d('POST', '/form', *multipart([('a', None, None, b'x'), ('b', None, None, 'ü'.encode())]))[2], 'x ü', 'a form of parts')
    content = os.urandom(3000000)
    answer = json.loads(d('POST', '/file', *multipart([('note', None, None, b'hi'), ('file', 'a "b".bin'.replace('"', '\\"'), 'image/x-odd', content)]))[2])
    tap.same(answer, {'bytes': len(content), 'md5': hashlib.md5(content).hexdigest(), 'name': 'a "b".bin', 'type': 'image/x-odd', 'note': 'hi'}, 'a file of 3 MB, with its name and type')
    for body in (b'', b'\0\xff' * 50, b'--xy', b'\r\n--xy\r\n'):        # the boundary is xyz
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
        answer = rest(s)
        tap.ok(first.startswith(b'HTTP/1.1 100 ') and code(answer) == 200 and b'Error>' not in answer, 'a good one is asked for')
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
        out, _ = d.raw(d.head('GET', '/hello', 'Connection: close'), timeout=10)
        bad += code(out) != 200 or b'Error>' in out
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


def part_pipelines(d):
    """d.other is the port of a listener of pipeline "pipe one" alone."""
    one = Door(d.pg, d.other, d.token)
    tap.same([d('GET', p)[0] for p in ('/one/status/x', '/status/x')], [200, 404], "a pipeline's routes under their prefix")
    tap.same([one('GET', p)[0] for p in ('/status/x', '/one/status/x', '/hello')], [200, 404, 404], 'and without it where it listens alone')
    tap.same(d.json('GET', '/told')[1]['headers'].get(':pipeline'), None, 'no pipeline is told on the common address')


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


def main():
    wanted = sys.argv[1:] or ['requests', 'tokens', 'bodies', 'connections', 'polls', 'pipelines', 'settings']
    if wanted != ['settings']:
        with server(NAME, 'a') as d:
            for name in wanted:
                if name != 'settings':
                    tap.note(name)
                    globals()['part_' + name](d)
    if 'settings' in wanted:
        with server(NAME, 'b', http_anonymous='anon', http_allow_origin='https://app.example', http_max_connections=40, http_max_connections_per_address=25) as d:
            part_settings(d)
    tap.done()


if __name__ == '__main__':
    main()
