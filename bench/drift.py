#!/usr/bin/env python3
"""Drift of 10 million rows x 20 columns on a private cluster: seconds, CPU and peak memory.

    taskset -c 1 bench/drift.py [--rows N] [--weeks N]

A monitor with weekly windows reads the whole table (one backend, no parallel workers), compares every week
with the four before, and keeps the sketches; then once more with one new week.  Beside it: what the server
needs to read the same rows without us (20 sums), and millrace.sketch_agg over all columns with two parallel
workers.  Peer: numpy and scipy on arrays that are in memory already, one core (KS, PSI, mean and deviation a
column and week).  Needs numpy, scipy, psycopg.
"""
import argparse
import os
import pathlib
import sys
import time

for v in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[v] = "1"
import numpy as np
import psycopg
import scipy.stats as stats

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "t"))
from lib.cluster import Cluster, find_pg_config

NUMBERS = [f"x{i}" for i in range(16)]
COLUMNS = NUMBERS + ["n", "r", "kind", "flag"]


def status(pid, key):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(key + ":")) / 1024


def cpu(pid):
    with open(f"/proc/{pid}/schedstat") as f:
        return int(f.read().split()[0]) / 1e9


def timed(db, name, sql, before=None):
    """Run in a fresh backend's session db; prints seconds, CPU seconds and peak MB of the backend, returns the CPU's."""
    pid = db.info.backend_pid
    if before:
        db.execute(before)
    c, t = cpu(pid), time.perf_counter()
    db.execute(sql).fetchone()
    t, c = time.perf_counter() - t, cpu(pid) - c
    print(f"{name}: {t:.1f} s, {c:.1f} s CPU, peak {status(pid, 'VmHWM'):.0f} MB, shared buffers among them, "
          f"{status(pid, 'RssAnon'):.0f} MB of its own at the end", flush=True)
    return c


def peer(rows, weeks):
    """The same figures by numpy and scipy; a tenth of the columns, times ten."""
    rng = np.random.default_rng(0)
    per = rows // weeks
    spent = 0
    for column in range(2):
        x = rng.normal(size=rows)
        t = time.process_time()
        for w in range(4, weeks):
            r, c = x[(w - 4) * per:w * per], x[w * per:(w + 1) * per]
            stats.ks_2samp(r, c, method="asymp")
            stats.mannwhitneyu(c, r, method="asymptotic")
            edges = np.quantile(r, np.arange(1, 10) / 10)
            for side in (r, c):
                np.bincount(np.searchsorted(edges, side), minlength=10)
            c.mean(), c.std()
        spent += time.process_time() - t
    print(f"numpy and scipy, arrays in memory: {spent * 10:.0f} s CPU for 20 columns", flush=True)
    return spent * 10


def main():
    arg = argparse.ArgumentParser()
    arg.add_argument("--rows", type=int, default=10_000_000)
    arg.add_argument("--weeks", type=int, default=20)
    arg.add_argument("--folder", default="tmp/bench_drift")
    arg.add_argument("--no-peer", action="store_true")
    a = arg.parse_args()
    with Cluster(find_pg_config(), a.folder, conf={"fsync": "off", "shared_buffers": "128MB", "timezone": "UTC",
                                                  "max_wal_size": "2GB", "wal_level": "minimal", "max_wal_senders": "0"}) as c:
        c.psql("CREATE EXTENSION millrace")
        with psycopg.connect(c.dsn(), autocommit=True) as db:
            xs = ", ".join(f"random() * {i + 1} AS {n}" for i, n in enumerate(NUMBERS))
            db.execute(f"""CREATE UNLOGGED TABLE big AS SELECT timestamptz '2026-01-05' + i * interval '{a.weeks} weeks' / {a.rows} AS at,
                {xs}, (random() * 1000)::int AS n, random()::real AS r, 'k' || (i % 37) AS kind, i % 3 = 0 AS flag
                FROM generate_series(0, {a.rows - 1}) i""")
            db.execute("ANALYZE big")
            print(f"{a.rows} rows x 20 columns, {db.execute('SELECT pg_size_pretty(pg_table_size(%s))', ['big']).fetchone()[0]}", flush=True)
            db.execute("""SELECT millrace.create_monitor('big', 'big', '{"time": "at"}')""")
        serial = "SET max_parallel_workers_per_gather = 0"
        with psycopg.connect(c.dsn(), autocommit=True) as db:
            sums = ", ".join(f"sum({n})" for n in NUMBERS + ["n", "r"]) + ", max(kind), bool_or(flag)"
            timed(db, "20 plain aggregates", f"SELECT {sums} FROM big", serial)
        with psycopg.connect(c.dsn(), autocommit=True) as db:
            ours = timed(db, f"monitor, {a.weeks} windows", f"SELECT millrace.run_monitor('big', timestamptz '2026-01-05' + interval '{a.weeks} weeks')", serial)
        with psycopg.connect(c.dsn(), autocommit=True) as db:
            db.execute("CREATE INDEX ON big (at)")
            db.execute(f"""INSERT INTO big SELECT at + interval '{a.weeks} weeks', {', '.join(COLUMNS)} FROM big
                WHERE at < timestamptz '2026-01-12'""")
            timed(db, "one new week", f"SELECT millrace.run_monitor('big', timestamptz '2026-01-12' + interval '{a.weeks} weeks')", serial)
        with psycopg.connect(c.dsn(), autocommit=True) as db:
            aggregates = ", ".join(f"millrace.sketch_agg({n})" for n in COLUMNS)
            timed(db, "sketch_agg, 2 parallel workers", f"SELECT {aggregates} FROM big",
                  "SET max_parallel_workers_per_gather = 2")
    if not a.no_peer:
        theirs = peer(a.rows, a.weeks)
        print(f"peer's CPU / ours: {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
