"""Requests over HTTP: what a server may do to us, and what becomes of each request.  Exactly one result whatever
happens, no transaction open while a server is waited for, no connection to where the server's owner may not look."""
# timeout: 600
import hashlib
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import SqlError
from lib.httpqueue import fetch, prepare, result, server, settled, stat
from lib.httpstub import Stub, content
from lib.stream import clean_log, cluster, literal

def answers(c, stub):
    """Every kind of answer, and what it comes to."""
    server(c, 'answers', stub)
    expected = {'b-1/missing/a': ('58P01', 'object "b-1/missing/a": the server answered 404 NoSuchKey: The specified key does not exist.', 1),
                'b-1/forbidden/a': ('42501', 'object "b-1/forbidden/a": the server answered 403 AccessDenied: Access Denied.', 1),
                'b-1/badkey/a': ('28000', '403 SignatureDoesNotMatch', 1),
                'b-1/refused/a': ('08004', 'the server answered 400 InvalidArgument: No.', 1),
                'b-1/redirect/a': ('08004', 'the server answered 302, which is not followed', 1),
                'b-1/nohttp/a': ('08P01', 'no HTTP: ', 1),
                'b-1/headers/a': ('08P01', 'no HTTP: the answer\'s headers are larger than 64 kB', 1),
                'b-1/large-1000000/a': ('54000', 'too large: its 1000000 bytes are more than the 100000 allowed', 1),
                'b-1/endless/a': ('54000', 'too large: it is larger than the 100000 bytes allowed', 1),
                'b-1/flaky-99/a': ('58000', 'the server answered 500 (attempt 4, the last)', 4),
                'b-1/truncated-99/a': ('08P01', 'truncated: ', 4),
                'b-1/reset-99/a': ('08006', 'connection lost: ', 4),
                'b-1/drip/a': ('HYT00', 'too slow: less than 100 bytes a second for 500 ms (attempt 4, the last)', 4),
                'b-1/hung/a': ('HYT00', 'too slow: less than 100 bytes a second for 500 ms (attempt 4, the last)', 4)}
    good = ['b-1/ok-0/a', 'b-1/ok-1/a', 'b-1/ok-100000/a', 'b-1/flaky-2/a', 'b-1/truncated-1/a', 'b-1/reset-3/a']
    fetch(c, 'answers', *expected, *good)
    settled(c, 'answers')
    for path, (sqlstate, text, calls) in expected.items():
        bytes_, state, error = result(c, path)
        tap.ok((bytes_, state) == (None, sqlstate) and text in error and error.startswith('object "%s": ' % path), '%s: %s, %s' % (path, state, error))
        tap.same(len(stub.calls('/' + path)), calls, '%s was called %d times' % (path, calls))
    for path in good:
        n = int(path.split('-')[2].split('/')[0]) if '/ok' in path else 1000
        tap.same(c.psql(f'SELECT bytes, md5, sqlstate FROM app.results WHERE tag = {literal(path)}'),
                 [(str(n), hashlib.md5(content('/' + path, n)).hexdigest(), None)], path + ' arrived as it is')
    tap.same(stub.calls('/secret/ok-10/x'), [], 'no redirect was followed')
    tap.same(c.value("SELECT string_agg(DISTINCT role, ',') FROM app.results"), 'app', 'results were delivered as the role that asked')
    tap.same(c.psql("SELECT succeeded, failed, bytes_in, retries FROM millrace.stat_http WHERE server = 'answers'"),
             c.psql('SELECT count(*) FILTER (WHERE sqlstate IS NULL), count(sqlstate), sum(bytes), 21 FROM app.results'), 'the numbers are those of the results')
    tap.same(c.psql("SELECT k, v FROM millrace.stat_http, jsonb_each_text(errors) e(k, v) WHERE server = 'answers' ORDER BY 1"),
             [('connection_lost', '7'), ('forbidden', '1'), ('missing', '1'), ('not_authenticated', '1'), ('refused', '4'), ('server_error', '6'), ('too_large', '2'),
              ('too_slow', '8'), ('truncated', '5')], 'and the faults those of the attempts')
    tap.same(stat(c, 'answers', 'p50_ms > 0 AND p50_ms <= p95_ms AND mean_ms <= max_ms AND waiting = 0 AND in_flight = 0'), 't', 'answers took their time')


def retry_after(c, stub):
    """The server's own wish is kept."""
    server(c, 'later', stub)
    fetch(c, 'later', 'b-1/busy-2/a')
    settled(c, 'later')
    first, second = stub.calls('/b-1/busy-2/a')
    tap.ok(second - first >= 2, 'a 429 with Retry-After: 2 was tried again after %.2f s' % (second - first))


def keys(c, stub):
    """Keys of all kinds are encoded once; paths that can be none are told of."""
    server(c, 'keys', stub)
    names = {'b-1/ok-10/a b+c%20&=?#': '/b-1/ok-10/a%20b%2Bc%2520%26%3D%3F%23', 'b-1/ok-10/grün/日本.jpg': '/b-1/ok-10/gr%C3%BCn/%E6%97%A5%E6%9C%AC.jpg',
             's3://b-1/ok-10/../x//y': '/b-1/ok-10/../x//y'}
    fetch(c, 'keys', *names)
    settled(c, 'keys')
    for name, path in names.items():
        tap.same((result(c, name)[0], len(stub.calls(path))), ('10', 1), '%s stands as %s in the request line' % (name, path))
    with stub.lock:
        headers = [h for p, _, _, h in stub.log if p == '/b-1/ok-10/../x//y'][0]
    tap.ok(headers['Authorization'].startswith('AWS4-HMAC-SHA256 Credential=me/') and 'SignedHeaders=host;x-amz-content-sha256;x-amz-date,' in headers['Authorization'],
           'requests are signed')
    tap.same('Accept-Encoding' in headers, False, 'and ask for no compression')
    fetch(c, 'keys', 'nokey', 'UP/x', 'b-1/x\ny', 'b-1/' + 'x' * 1025)
    settled(c, 'keys')
    tap.same([result(c, t)[1] for t in ('nokey', 'UP/x', 'b-1/x\ny', 'b-1/' + 'x' * 1025)], ['22023'] * 4, 'what can be no path is told of')


def refused(c, sql):
    """SQLSTATE of a statement of role app."""
    try:
        c.psql(sql, user='app')
    except SqlError as e:
        return e.sqlstate


def puts(c, stub):
    server(c, 'puts', stub, timeout_ms=60000, low_speed_bytes=0)
    c.psql("SELECT millrace.put_object('puts', 'b-1/put/x y', '\\x00ff10', 'image/jpeg', 'app.done', 'put'), millrace.put_object('puts', 'b-1/put/none', ''),"
           "millrace.put_object('puts', 'b-1/forbidden/p', '\\x01'), millrace.put_object('puts', 'b-1/put/big', decode(repeat('ab', 3000000), 'hex'))", user='app')
    settled(c, 'puts')
    tap.same((stub.stored['/b-1/put/x%20y'], stub.types['/b-1/put/x%20y'], stub.stored['/b-1/put/none'], len(stub.stored['/b-1/put/big'])),
             (b'\x00\xff\x10', 'image/jpeg', b'', 3000000), 'objects were put')
    tap.same(result(c, 'put'), (None, None, None), 'and told of')
    tap.same(c.psql("SELECT method, path, stage, sqlstate, attempts, content FROM millrace.http_failures"),
             [('PUT', 'b-1/forbidden/p', 'request', '42501', '1', '\\x01')], 'a failure that nobody is told of is kept')
    tap.same(stat(c, 'puts', 'bytes_out'), '3000004', 'bytes out')
    stub.hold.clear()
    c.psql("SELECT count(millrace.put_object('puts', 'b-1/put/many' || g, decode(repeat('cd', 30000000), 'hex'))) FROM generate_series(1, 6) g", user='app')
    c.wait_for("SELECT in_flight FROM millrace.stat_http WHERE server = 'puts'", '2')
    time.sleep(0.5)
    at_once = stat(c, 'puts', 'in_flight')
    stub.hold.set()
    settled(c, 'puts')
    tap.same((at_once, [len(stub.stored['/b-1/put/many%d' % g]) for g in range(1, 7)]), ('2', [30000000] * 6), 'large ones go a few at a time')
    tap.same(refused(c, "SELECT millrace.put_object('puts', 'b-1/put/huge', convert_to(repeat('x', 269000000), 'UTF8'))"), '54000', 'too large a one is refused')


def outage(c, stub):
    """A server that is down costs few requests an attempt; broken objects do not hold up others."""
    server(c, 'down', stub, max_attempts=20, backoff_ms=100)
    stub.down.set()
    paths = ['b-1/ok-10/o%d' % i for i in range(500)]
    fetch(c, 'down', *paths)
    time.sleep(5)
    stub.down.clear()
    settled(c, 'down')
    tried = sum(1 for p in paths if len(stub.calls('/' + p)) > 1)
    tap.ok(tried <= 30 and stat(c, 'down', 'succeeded') == '500', '5 s of 503 cost %d of 500 requests an attempt, and none its result' % tried)
    broken = ['b-1/flaky-99/o%d' % i for i in range(40)]
    server(c, 'broken', stub, max_attempts=20, backoff_ms=1000)
    t = time.monotonic()
    fetch(c, 'broken', *broken, *['b-1/ok-10/p%d' % i for i in range(200)])
    c.wait_for("SELECT succeeded FROM millrace.stat_http WHERE server = 'broken'", '200')
    tap.ok(stat(c, 'broken', 'waiting + in_flight') == '40', '200 objects came past 40 broken ones in %.1f s' % (time.monotonic() - t))


PARTS = (answers, retry_after, keys, puts, outage)


def main():
    with cluster('http') as c, Stub() as stub:
        prepare(c)
        for part in PARTS:
            if len(sys.argv) < 2 or part.__name__ in sys.argv[1:]:
                part(c, stub)
        clean_log(c)
    tap.done()


main()
