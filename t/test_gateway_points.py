#!/usr/bin/env python3
# timeout: 600
# takes: 30
"""The gateway under faults: its I/O worker fails at each of its failpoints while requests are under way.  One request at most is told to come
again; the worker, its connections and its executors go on."""
import http.client
import os
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import free_port
from lib.faults import arm, eventually, fired, library
from lib.stream import cluster, folder

POINTS = ['turn', 'accept', 'book', 'give', 'take']


def main():
    port = free_port()
    conf = library(folder('gateway_points'))
    conf.update({'millrace.http_listen': '127.0.0.1:%d' % port})
    with cluster('gateway_points', conf) as c:
        c.psql("""CREATE EXTENSION millrace; CREATE ROLE web; CREATE SCHEMA w; GRANT USAGE ON SCHEMA w TO web;
            CREATE FUNCTION w.f(n int) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM pg_sleep(0.002); RETURN n; END';
            SELECT millrace.create_route('GET', '/f', 'w.f(int)')""")
        c.psql('SELECT millrace.start()')
        headers = {'Authorization': 'Bearer ' + c.value("SELECT millrace.create_api_token('t', 'web')")}

        def get(n, connection=None):
            h = connection or http.client.HTTPConnection('127.0.0.1', port, timeout=20)
            h.request('GET', '/f?n=%d' % n, headers=headers)
            r = h.getresponse()
            return r.status, r.read().decode()

        def answers():
            try:
                return get(1)[0] == 200
            except OSError:
                return False
        eventually('the gateway answers', answers, 60)
        pid = c.value("SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace gateway'")
        refused = wrong = total = 0
        stop = threading.Event()
        lock = threading.Lock()

        def client():
            nonlocal refused, wrong, total
            h = http.client.HTTPConnection('127.0.0.1', port, timeout=20)
            n = 0
            while not stop.is_set():
                n += 1
                try:
                    status, text = get(n, h)
                except OSError as e:
                    status, text = 0, str(e)
                with lock:
                    total += 1
                    refused += status == 503
                    wrong += status not in (200, 503) or (status == 200 and text != str(n))
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
        tap.same([get(n) for n in range(50)], [(200, str(n)) for n in range(50)], 'and answers, with all of its executors')
    tap.done()


if __name__ == '__main__':
    main()
