"""Requests over HTTP under faults: the worker fails, dies or stops at each of its failpoints, the server forgets, cuts and
refuses meanwhile.  Each request has one result, none too many attempts, and the numbers are those of the results."""
# timeout: 900
import os
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.faults import arm, eventually, fired, library
from lib.httpqueue import prepare, server, settled
from lib.httpstub import Stub
from lib.stream import clean_log, cluster, folder

POINTS = ['claimed', 'started', 'finished', 'taken_off', 'told', 'commit', 'committed']
ACTIONS = ['error', 'kill', 'stop']
REQUESTS = int(os.environ.get('MILLRACE_REQUESTS', '60'))      # a fault


def main():
    conf = library(folder('http_faults'))
    with cluster('http_faults', conf) as c, Stub() as stub:
        prepare(c)
        c.psql('CREATE TABLE app.asked (path text PRIMARY KEY)', user='app')
        server(c, 's', stub, max_attempts=50, backoff_ms=20)
        n = hit = 0
        for action in ACTIONS:
            for point in POINTS:
                name = 'http.' + point
                arm(c, name, action)
                kinds = ['ok-10', 'flaky-1', 'truncated-1', 'reset-1', 'missing']
                # a kill may come between the commit and the answer to it: asked again, it asks for nothing twice
                eventually('requests are made', lambda: c.psql(
                    f"""WITH new AS (INSERT INTO app.asked SELECT 'b-1/' || (ARRAY[{','.join(map(repr, kinds))}])[1 + i % 5] || '/' || i
                            FROM generate_series({n}, {n + REQUESTS - 1}) i ON CONFLICT DO NOTHING RETURNING path)
                        SELECT count(millrace.fetch_object('s', path, 'app.done', path)) FROM new""", user='app'))
                n += REQUESTS
                pid = eventually(name + ' is reached', lambda: fired(c, name), 30)
                if action == 'stop':
                    time.sleep(0.5)
                    c.kill(pid, 18)
                hit += 1
                eventually('the server is back', lambda: c.value('SELECT 1'))
        settled(c, 's', 120)
        tap.same(hit, len(POINTS) * len(ACTIONS), '%d faults met the worker' % hit)
        tap.same(c.psql('SELECT count(*), count(DISTINCT tag), count(bytes) FROM app.results'), [(str(n), str(n), str(n * 4 // 5))], 'each of %d requests had its one result' % n)
        tap.same(c.psql("SELECT succeeded, failed, undelivered FROM millrace.stat_http"), [(str(n * 4 // 5), str(n // 5), '0')], 'the numbers are those of the results')
        calls = stub.paths()
        tap.same([p for p in calls if calls[p] > 12], [], 'no request was made over and over (at most %d times)' % max(calls.values()))
        clean_log(c, killed=True)
    tap.done()


main()
