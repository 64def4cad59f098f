"""A scrape of 1,000 samples and more: GET /metrics through the gateway, and SELECT millrace.metrics(), wall and CPU time of each.

    bench/metrics.py [--scrapes 300]

No peer: postgres_exporter would run the same views, and has no histograms of its own.
"""
import argparse
import os
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 't'))
from lib.web import Web, gateway, token


def cpu_of(pids):
    """Seconds of processes of one thread each."""
    return sum(int(open(f'/proc/{p}/schedstat').read().split()[0]) for p in pids) / 1e9


def measure(n, scrape, pids):
    for _ in range(10):
        scrape()
    walls, before = [], cpu_of(pids)
    for _ in range(n):
        began = time.perf_counter()
        scrape()
        walls.append(1000 * (time.perf_counter() - began))
    walls.sort()
    return statistics.median(walls), walls[int(0.99 * n)], 1000 * (cpu_of(pids) - before) / n


def main():
    a = argparse.ArgumentParser(description=__doc__)
    a.add_argument('--scrapes', type=int, default=300)
    args = a.parse_args()
    with gateway('bench_metrics', '') as (c, port):
        c.psql("SELECT millrace.create_pipeline('images', 'p' || i) FROM generate_series(1, 3) i; CREATE ROLE watcher IN ROLE millrace_monitor")
        c.psql("SELECT millrace.observe('p' || p, 'stage' || s, 0.001 * s) FROM generate_series(1, 3) p, generate_series(1, 20) s")
        web = Web(port, token(c, 'watcher'))
        text = web.raw('GET', '/metrics')[1].decode()
        print('%d samples, %d kB' % (sum(not line.startswith('#') for line in text.splitlines()), len(text) // 1000))
        workers = [int(p) for p, in c.psql("SELECT pid FROM pg_stat_activity WHERE backend_type IN ('millrace gateway', 'millrace executor')")]
        print('GET /metrics               %.1f ms, p99 %.1f ms, CPU %.1f ms' % measure(args.scrapes, lambda: web.raw('GET', '/metrics'), workers))
        s = c.session()
        print('SELECT millrace.metrics()  %.1f ms, p99 %.1f ms, CPU %.1f ms'
              % measure(args.scrapes, lambda: s.run('SELECT length(millrace.metrics())'), [s.pid()]))
        s.close()


main()
