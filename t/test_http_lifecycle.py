"""Requests over HTTP through everything that happens to a worker: a server that hangs (no transaction is open, others
keep their rate), kill -9, a late answer, deliveries that fail, changed and dropped servers, roles, shutdown, databases
and extensions dropped with requests on their way.  Each request has one result."""
# timeout: 900
import contextlib
import os
import ssl
import subprocess
import sys
import time
import warnings

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.httpqueue import SECRET, fetch, prepare, result, server, settled, stat, worker
from lib.httpstub import Stub
from lib.stream import clean_log, cluster, folder

HUNG_S = int(os.environ.get('MILLRACE_HUNG_S', '8'))


def hung(c, stub, other):
    """A server that answers nobody at full concurrency: xmin moves on, another queue keeps its rate, then all is well."""
    server(c, 'hung', stub, concurrency=256, timeout_ms=600000, low_speed_bytes=0)
    server(c, 'other', other)
    stub.hold.clear()
    paths = ['b-1/ok-10/h%d' % i for i in range(600)]
    fetch(c, 'hung', *paths)
    c.wait_for("SELECT in_flight FROM millrace.stat_http WHERE server = 'hung'", '256')
    end = time.monotonic() + HUNG_S
    worst = n = 0
    while time.monotonic() < end:
        fetch(c, 'other', 'b-1/ok-10/%d' % n)
        worst = max(worst, int(c.value('SELECT max(age(backend_xmin)) FROM pg_stat_activity WHERE backend_type LIKE \'millrace%\' '
                                       'AND now() - xact_start > interval \'1 s\'') or 0))
        n += 1
    settled(c, 'other')
    tap.same(worst, 0, 'no worker held a transaction in %d s' % HUNG_S)
    tap.same((stat(c, 'other', 'succeeded'), stat(c, 'hung', 'succeeded')), (str(n), '0'), '%d requests to another server went through meanwhile' % n)
    stub.hold.set()
    settled(c, 'hung')
    tap.same(c.psql("SELECT count(*), count(DISTINCT tag), count(bytes) FROM app.results WHERE tag LIKE '%/h%'"), [('600', '600', '600')],
             'then each of 600 requests had its one result')


def killed(c, stub):
    """kill -9 with requests on their way; a fast shutdown the same."""
    server(c, 'killed', stub, timeout_ms=600000, low_speed_bytes=0)
    paths = ['b-1/ok-10/k%d' % i for i in range(100)]
    stub.hold.clear()
    fetch(c, 'killed', *paths)
    c.wait_for("SELECT in_flight FROM millrace.stat_http WHERE server = 'killed'", '16')
    for pid in worker(c):
        with contextlib.suppress(ProcessLookupError):           # the server ends all others after one was killed
            c.kill(pid)
    time.sleep(1)
    c.wait_for('SELECT count(*) FROM millrace.http_requests WHERE attempts = 2', '16')
    took = c.stop()
    tap.ok(took < 5, 'a fast shutdown with requests on their way took %.1f s' % took)
    c.start()
    c.wait_for('SELECT count(*) FROM millrace.http_requests WHERE attempts = 3', '16')
    stub.hold.set()
    settled(c, 'killed')
    tap.same(c.psql("SELECT count(*), count(DISTINCT tag), count(bytes) FROM app.results WHERE tag LIKE '%/k%'"), [('100', '100', '100')],
             'after kill -9 and a shutdown each of 100 requests had its one result')


def late(c, stub):
    """Answers to requests that are no longer ours are dropped."""
    server(c, 'late', stub, timeout_ms=600000, low_speed_bytes=0)
    stub.hold.clear()
    fetch(c, 'late', 'b-1/ok-10/l1', 'b-1/ok-10/l2')
    c.wait_for("SELECT in_flight FROM millrace.stat_http WHERE server = 'late'", '2')
    tap.same(c.value("SELECT millrace.cancel_requests('late', array_agg(id)) FROM millrace.http_requests WHERE tag = 'b-1/ok-10/l1'"), '1', 'one is taken back')
    stub.hold.set()
    settled(c, 'late')
    c.wait_for("SELECT succeeded + late FROM millrace.stat_http WHERE server = 'late'", '2')
    tap.same((result(c, 'b-1/ok-10/l1'), result(c, 'b-1/ok-10/l2')[0], stat(c, 'late', 'late')), (None, '10', '1'), 'its answer is dropped and counted, the other delivered')
    stub.hold.clear()
    fetch(c, 'late', 'b-1/ok-10/l3')
    c.wait_for("SELECT in_flight FROM millrace.stat_http WHERE server = 'late'", '1')
    c.psql("UPDATE millrace.http_progress p SET epoch = epoch + 1 FROM millrace.http_queues q WHERE q.id = p.queue AND server = 'late'")
    stub.hold.set()
    settled(c, 'late')
    tap.same((result(c, 'b-1/ok-10/l3')[0], len(stub.calls('/b-1/ok-10/l3'))), ('10', 2), 'a worker whose epoch is over delivers nothing; its successor asks again')


def deliveries(c, stub):
    """What the function that is told may do."""
    server(c, 'told', stub)
    c.psql('''CREATE FUNCTION app.fussy(tags text[], paths text[], contents bytea[], sqlstates text[], errors text[]) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN IF 'b-1/ok-10/bad7' = ANY (tags) OR 'b-1/missing/bad' = ANY (tags) THEN RAISE EXCEPTION 'not this one' USING ERRCODE = 'P0042', DETAIL = 'why'; END IF;
        PERFORM app.done(tags, paths, contents, sqlstates, errors); SET search_path = nowhere; SET enable_nestloop = off; END $$''', user='app')
    paths = ['b-1/ok-10/f%d' % i for i in range(200)] + ['b-1/ok-10/bad7', 'b-1/missing/bad']
    fetch(c, 'told', *paths[:100], *paths[200:], *paths[100:200], deliver='app.fussy')
    settled(c, 'told')
    tap.same(c.psql("SELECT count(*), count(DISTINCT tag), count(bytes) FROM app.results WHERE tag LIKE '%/f%'"), [('200', '200', '200')],
             'what a function does not take costs the others nothing')
    tap.same(c.psql("SELECT path, stage, sqlstate, error, detail FROM millrace.http_failures WHERE server = 'told' ORDER BY path"),
             [('b-1/missing/bad', 'delivery', 'P0042', 'not this one', 'why\nobject "b-1/missing/bad": the server answered 404 NoSuchKey: The specified key does not exist.'),
              ('b-1/ok-10/bad7', 'delivery', 'P0042', 'not this one', 'why\n10 bytes had been fetched')], 'and is kept with the error')
    tap.same(c.psql("SELECT succeeded, failed, undelivered FROM millrace.stat_http WHERE server = 'told'"), [('200', '2', '2')], 'counted')
    c.psql("ALTER FUNCTION app.done(text[], text[], bytea[], text[], text[]) RENAME TO done2; ALTER FUNCTION app.fussy RENAME TO gone; "
           "ALTER FUNCTION app.done2 RENAME TO fussy", user='app')
    tap.same(c.value("SELECT millrace.retry_requests('told')"), '2', 'failures go back')
    settled(c, 'told')
    tap.same((result(c, 'b-1/ok-10/bad7'), result(c, 'b-1/missing/bad')[1]), (('10', None, None), '58P01'), 'and are delivered after a fix')

    # gone: at once; trouble: waited out
    c.psql("ALTER FUNCTION app.gone RENAME TO done", user='app')
    stub.hold.clear()
    fetch(c, 'told', 'b-1/ok-10/g', deliver='app.done')
    c.psql('DROP FUNCTION app.done', user='app')
    stub.hold.set()
    settled(c, 'told')
    tap.same(c.psql("SELECT stage, sqlstate FROM millrace.http_failures WHERE path = 'b-1/ok-10/g'"), [('delivery', '42883')], 'a function that is gone is not waited for')
    c.psql("ALTER FUNCTION app.fussy RENAME TO done; CREATE FUNCTION app.full(tags text[], paths text[], contents bytea[], sqlstates text[], errors text[]) "
           "RETURNS void LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = 'disk_full'; END $$", user='app')
    fetch(c, 'told', 'b-1/ok-10/r1', 'b-1/ok-10/r2', deliver='app.full')
    c.wait_for("SELECT state || ' ' || reason FROM millrace.stat_http WHERE server = 'told'", 'waiting no room')
    c.psql('DROP FUNCTION app.full; ALTER FUNCTION app.done RENAME TO "full"', user='app')
    settled(c, 'told')
    tap.same((result(c, 'b-1/ok-10/r1')[0], result(c, 'b-1/ok-10/r2')[0], len(stub.calls('/b-1/ok-10/r1'))), ('10', '10', 1),
             'a full disk is waited out, with what was fetched')
    c.psql('ALTER FUNCTION app."full" RENAME TO done', user='app')


def rights(c, stub):
    """Who may look where, and as whom."""
    server(c, 'private', stub, owner='app')
    fetch(c, 'private', 'b-1/ok-10/p1')
    settled(c, 'private')
    tap.same((result(c, 'b-1/ok-10/p1')[1:], stub.calls('/b-1/ok-10/p1')),
             (('42501', 'object "b-1/ok-10/p1": the server\'s address is of a private network'), []), 'a server of no superuser reaches no private address')
    for url in ('http://localhost:%d' % stub.port, 'http://2130706433:%d' % stub.port, 'http://0x7f.1:%d' % stub.port, 'http://[::ffff:127.0.0.1]:%d' % stub.port):
        c.psql(f"ALTER SERVER private OPTIONS (SET url '{url}')", user='app')
        fetch(c, 'private', 'b-1/ok-10/' + url[7:])
        settled(c, 'private')
        tap.same(result(c, 'b-1/ok-10/' + url[7:])[1], '42501', 'nor by the name of ' + url)
    c.psql(f"ALTER SERVER private OPTIONS (SET url '{stub.url}', ADD allow_private 'true')")
    fetch(c, 'private', 'b-1/ok-10/p2')
    settled(c, 'private')
    tap.same(result(c, 'b-1/ok-10/p2')[0], '10', 'unless a superuser says so; the worker hears of it')
    c.psql("DROP USER MAPPING FOR app SERVER private")
    fetch(c, 'private', 'b-1/ok-10/p3')
    settled(c, 'private')
    with stub.lock:
        signed = {p: 'Authorization' in h for p, _, _, h in stub.log}
    tap.same((signed['/b-1/ok-10/p2'], signed['/b-1/ok-10/p3']), (True, False), 'without a user mapping requests are not signed')
    c.psql('ALTER ROLE app NOLOGIN')
    c.psql("SET ROLE app; SELECT millrace.fetch_object('private', 'b-1/ok-10/p4', 'app.done', 'p4')")
    for pid in worker(c):
        c.psql(f'SELECT pg_terminate_backend({pid})')
    c.wait_for("SELECT reason FROM millrace.stat_http WHERE server = 'private'", 'role "app" is not permitted to log in')
    tap.ok(('http', 'private') in [(k, n.split('/')[0]) for k, n in c.psql("SELECT kind, name FROM millrace.worker_status() WHERE reason LIKE '%log in'")],
           'an owner who may not log in: the reason shows in worker_status()')
    c.psql('ALTER ROLE app LOGIN')
    settled(c, 'private')
    c.psql("SELECT millrace.pause_requests('private', 'tea')")
    fetch(c, 'private', 'b-1/ok-10/p5')
    c.wait_for("SELECT state || ' ' || reason FROM millrace.stat_http WHERE server = 'private'", 'paused tea')
    time.sleep(0.5)
    tap.same(result(c, 'b-1/ok-10/p5'), None, 'paused')
    c.psql("SELECT millrace.resume_requests('private')")
    settled(c, 'private')
    tap.same(result(c, 'b-1/ok-10/p5')[0], '10', 'and resumed')
    stub.hold.clear()
    fetch(c, 'private', 'b-1/ok-10/p6')
    c.wait_for("SELECT in_flight FROM millrace.stat_http WHERE server = 'private'", '1')
    c.psql('DROP SERVER private CASCADE')
    c.wait_for("SELECT reason FROM millrace.stat_http WHERE server = 'private'", 'server "private" does not exist')
    stub.hold.set()
    server(c, 'private', stub)
    settled(c, 'private')
    tap.same(result(c, 'b-1/ok-10/p6')[0], '10', 'a server dropped and made anew goes on')


def tls(c, stub):
    where = folder('http_lifecycle') / 'tls'
    where.mkdir(parents=True, exist_ok=True)
    for name in ('ca', 'other'):
        subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-keyout', name + '.key', '-out', name + '.pem', '-subj', '/CN=' + name,
                        '-addext', 'subjectAltName=IP:127.0.0.1'], cwd=where, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(where / 'ca.pem', where / 'ca.key')
    with Stub(context) as secure:
        server(c, 'tls', secure)
        fetch(c, 'tls', 'b-1/ok-10/t1')
        settled(c, 'tls')
        tap.ok(result(c, 'b-1/ok-10/t1')[1] == '08001' and not secure.log, 'an unknown certificate: %s' % result(c, 'b-1/ok-10/t1')[2])
        c.psql(f"ALTER SERVER tls OPTIONS (ADD ssl_ca_pem '{(where / 'ca.pem').read_text()}')")
        fetch(c, 'tls', 'b-1/ok-10/t2')
        c.psql("SELECT millrace.put_object('tls', 'b-1/put/t3', 'abc')", user='app')
        settled(c, 'tls')
        headers = {method: h for _, _, method, h in secure.log}
        tap.same((result(c, 'b-1/ok-10/t2')[0], secure.stored['/b-1/put/t3'], headers['PUT']['x-amz-content-sha256']), ('10', b'abc', 'UNSIGNED-PAYLOAD'),
                 'a known one')
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        old.load_cert_chain(where / 'ca.pem', where / 'ca.key')
        old.set_ciphers('ALL:@SECLEVEL=0')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        with Stub(old) as outdated:
            c.psql(f"ALTER SERVER tls OPTIONS (SET url '{outdated.url}')")
            fetch(c, 'tls', 'b-1/ok-10/t4')
            settled(c, 'tls')
            tap.same((result(c, 'b-1/ok-10/t4')[1], outdated.log), ('08001', []), 'TLS 1.1 is refused')


def dropped(c, stub):
    """Databases and the extension go with requests on their way."""
    stub.hold.clear()
    for db in ('d1', 'd2'):
        c.psql(f'CREATE DATABASE {db}')
        prepare(c, db=db)
        server(c, 'gone', stub, timeout_ms=600000, low_speed_bytes=0, db=db)
        fetch(c, 'gone', 'b-1/ok-10/d', deliver='app.done', db=db)
        c.wait_for("SELECT in_flight FROM millrace.stat_http", '1', db=db)
    t = time.monotonic()
    c.psql('DROP DATABASE d1')
    c.psql('DROP EXTENSION millrace CASCADE', db='d2')
    tap.ok(time.monotonic() - t < 5, 'DROP DATABASE and DROP EXTENSION took %.1f s' % (time.monotonic() - t))
    stub.hold.set()
    c.psql('DROP DATABASE d2 WITH (FORCE)')


def secrets(c, stub):
    tap.same([line for line in c.logs().splitlines() if SECRET in line], [], 'no secret stands in the log')
    tap.same(c.value(f"SELECT count(*) FROM (SELECT a::text AS t FROM pg_stat_activity a WHERE pid <> pg_backend_pid() UNION ALL SELECT h::text FROM millrace.stat_http h "
                     f"UNION ALL SELECT s::text FROM millrace.status() s UNION ALL SELECT f::text FROM millrace.http_failures f) x WHERE t LIKE '%{SECRET[:8]}' || '{SECRET[8:]}%'"), '0',
             'nor in a view')


def main():
    parts = (hung, killed, late, deliveries, rights, tls, dropped, secrets)
    with cluster('http_lifecycle', {'log_statement': 'none'}) as c, Stub() as stub, Stub() as other:
        prepare(c)
        for part in parts:
            if len(sys.argv) < 2 or part.__name__ in sys.argv[1:]:
                part(c, stub, other) if part is hung else part(c, stub)
        clean_log(c, killed=True)
    tap.done()


main()
