#!/usr/bin/env python3
# timeout: 900
# takes: 80
# lane: waits
"""The gateway at its limits: slow clients, full queues, clients that go away, streams of events, TLS; and its life with the server.
A part's name as argument runs that part alone.
"""
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import warnings

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import SqlError, free_port, unprivileged
from lib.gateway import Door, Events, code, server
from lib.stream import folder
from lib.web import until
import psycopg

NAME = 'test_gateway_limits'
FULL = bool(os.environ.get('MILLRACE_FULL'))


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
    tap.same(all_at_once(*[('/short', .6)] * 5).count(200), 2, 'what waits too long is not begun')
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
    tap.same(until(e.next, good=lambda x: x in ({'x': 4}, None)), {'x': 4}, 'those of others go on')
    for s in held + [e, more[0]]:
        s.close()
    tap.ok(until(lambda: int(pg.value("SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions")) >= 0, 1), 'nothing is left')


def part_tls(pg, port, token):
    """Certificate and key given."""
    cert = folder(NAME) / 'tls' / 'cert.pem'
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
    tap.ok(until(lambda: 'group or world access' in (pg.value(why) or ''), 15), 'a key that others may read is not used')
    time.sleep(1)
    tap.ok('group or world access' in (pg.value(why) or ''), 'which is told: %s' % pg.value(why))
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
    tap.ok(until(lambda: 'cannot listen on 127.0.0.1, port %d' % port in (pg.value(why) or ''), 15), 'an address in use is not had')
    time.sleep(1)
    tap.ok('cannot listen' in (pg.value(why) or ''), 'which is told: %s' % pg.value(why))
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
    place = folder(NAME) / 'tls'
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '30', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
                    '-keyout', place / 'key.pem', '-out', place / 'cert.pem'], check=True, stderr=subprocess.DEVNULL)
    return place


def use_tls(d):
    place = make_certificate()
    key = d.pg.data / 'gateway.key'
    key.write_bytes((place / 'key.pem').read_bytes())
    key.chmod(0o600)
    if unprivileged():
        shutil.chown(key, unprivileged())
    d.pg.psql("ALTER SYSTEM SET millrace.http_tls_key = 'gateway.key'")
    d.pg.psql("ALTER SYSTEM SET millrace.http_tls_certificate = '%s'" % (place / 'cert.pem'))
    d.pg.reload()
    part_tls(d.pg, d.port, d.token)


def main():
    wanted = sys.argv[1:] or ['slow', 'queue', 'streams', 'tls', 'database', 'life']
    if {'slow', 'queue', 'streams', 'tls'} & set(wanted):
        with server(NAME, 'a', http_header_timeout='1s', http_idle_timeout='2s', http_queue=3, http_max_streams=5) as d:
            for name in ('slow', 'queue', 'streams'):
                if name in wanted:
                    tap.note(name)
                    globals()['part_' + name](d)
            if 'tls' in wanted:
                use_tls(d)
    if {'database', 'life'} & set(wanted):
        with server(NAME, 'b') as d:
            if 'database' in wanted:
                part_database(d.pg, free_port())
            if 'life' in wanted:
                part_life(d)
    tap.done()


if __name__ == '__main__':
    main()
