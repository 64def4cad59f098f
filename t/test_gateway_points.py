#!/usr/bin/env python3
# timeout: 600
# takes: 30
"""The gateway under faults: its I/O worker fails at each of its failpoints while requests are under way.  One request at most is told to come
again; the worker, its connections and its executors go on."""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.faults import arm, eventually, fired, library
from lib.stream import folder
from lib.web import Web, gateway, token

POINTS = ['turn', 'accept', 'book', 'give', 'take']
SETUP = """
    CREATE ROLE web; CREATE SCHEMA w; GRANT USAGE ON SCHEMA w TO web;
    CREATE FUNCTION w.f(n int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM pg_sleep(0.002); RETURN n; END';
    SELECT millrace.create_route('GET', '/f', 'w.f(int)');
"""


def main():
    with gateway('gateway_points', SETUP, library(folder('gateway_points'))) as (c, port):
        key = token(c, 'web')
        Web(port, key).until('/f?n=1', seconds=60)
        pid = c.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace gateway'")
        refused = wrong = total = 0
        stop = threading.Event()
        lock = threading.Lock()

        def client():
            nonlocal refused, wrong, total
            web, n = Web(port, key, again=False), 0
            while not stop.is_set():
                n += 1
                try:
                    status, got, _ = web.raw('GET', '/f?n=%d' % n)
                except OSError as e:
                    status, got = 0, str(e)
                with lock:
                    total += 1
                    refused += status == 503
                    wrong += status not in (200, 503) or (status == 200 and got != b'%d' % n)
        threads = [threading.Thread(target=client) for _ in range(6)]
        for t in threads:
            t.start()
        for point in POINTS * 3:
            name = 'gateway.' + point
            arm(c, name, 'error')
            if point == 'book':
                c.psql("UPDATE millrace.routes SET summary = 'x' WHERE path = '/f'")
            eventually(name + ' is reached', lambda: fired(c, name), 30)
            time.sleep(.3)
        stop.set()
        for t in threads:
            t.join()
        tap.ok(wrong == 0 and total > 100, '%d requests, none answered wrongly' % total)
        tap.ok(1 <= refused <= 6, '%d of them were told to come again' % refused)
        tap.same(c.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace gateway'"), pid, 'the worker goes on')
        tap.same([Web(port, key, again=False).get('/f?n=%d' % n) for n in range(50)], [(200, n) for n in range(50)], 'and answers, with all of its executors')
    tap.done()


if __name__ == '__main__':
    main()
