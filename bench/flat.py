#!/usr/bin/env python3
"""The index millrace_flat and, where the server has it, pgvector's HNSW: build, size, recall at 10, time of a query.

    bench/flat.py --vectors x.npy --queries q.npy [--copies N] [--queries-run N] [--hnsw]

Vectors are rows of float32, each taken `copies` times, the copies moved at random by a fifth of their length.  Recall counts by
distance: whatever is as near as the tenth of an exact search (numpy) is right.  Everything runs on one core, in a server whose shared
buffers hold the index (that of PGHOST, else a private cluster); CPU seconds of the backend are given beside the wall's,
because machines are shared.  HNSW is built with its default m and ef_construction and asked with several ef_search.
Needs numpy, psycopg.
"""
import argparse
import contextlib
import os
import pathlib
import sys
import time

from common.side import ROOT, Side

import numpy as np

CHUNK = 50_000
NEAREST = 10
EQUAL = 1e-6            # distances of float32 sums


def backend_cpu(pid):
    with open(f'/proc/{pid}/schedstat') as f:
        return int(f.read().split()[0]) * 1e-9


@contextlib.contextmanager
def server():
    if os.environ.get('PGHOST'):
        yield
        return
    sys.path.insert(0, str(ROOT / 't'))
    from lib.cluster import Cluster, find_pg_config
    folder = pathlib.Path(os.environ.get('MILLRACE_TMP', ROOT / 'tmp')) / 'bench_flat'
    with Cluster(find_pg_config(), folder, conf={'fsync': 'off', 'shared_buffers': '2GB', 'max_wal_size': '8GB', 'maintenance_work_mem': '1GB'}) as c:
        os.environ.update(dict(p.split('=') for p in c.dsn().replace('host', 'PGHOST').replace('port', 'PGPORT')
                               .replace('dbname', 'PGDATABASE').replace('user', 'PGUSER').split()))
        c.psql('CREATE EXTENSION millrace')
        yield


def chunks(x, copies):
    """The vectors, piece by piece; later copies are moved."""
    rng = np.random.default_rng(1)
    for copy in range(copies):
        for i in range(0, len(x), CHUNK):
            piece = np.array(x[i:i + CHUNK])
            if copy:
                piece += rng.normal(scale=0.2 / np.sqrt(x.shape[1]), size=piece.shape).astype('f')
            yield piece


def fill(s, x, copies, queries):
    """The table, and the distance of each query's tenth."""
    s.db.execute('DROP TABLE IF EXISTS v, w, v_q, w_q; CREATE TABLE v (e real[])')
    q = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    best = np.full((len(q), NEAREST), np.inf)
    for piece in chunks(x, copies):
        s.copy('chunk', piece)
        s.db.execute('INSERT INTO v SELECT f FROM chunk; DROP TABLE chunk')
        distances = 1 - (piece / np.linalg.norm(piece, axis=1, keepdims=True)) @ q.T
        best = np.sort(np.concatenate([best, np.partition(distances, NEAREST, axis=0)[:NEAREST].T], axis=1), axis=1)[:, :NEAREST]
    s.db.execute('VACUUM ANALYZE v')
    return best[:, -1]


def build(s, name, sql, table, rows):
    seconds = s.clock(name + ' build', lambda: s.db.execute(sql)) and s.least(name + ' build')
    size, = s.db.execute('SELECT pg_relation_size(%s)', (name,)).fetchone()
    print(f'{name}: built in {seconds.wall:.1f} s, {seconds.cpu:.1f} s CPU, {rows / seconds.cpu:,.0f} rows/s of CPU; '
          f'{size / 2**20:.0f} MB, {size / rows:.0f} bytes a row', flush=True)
    s.db.execute('CREATE EXTENSION IF NOT EXISTS pg_prewarm')
    s.db.execute('SELECT pg_prewarm(%s), pg_prewarm(%s)', (table, name))


def ask(s, name, table, operator, tenth):
    """Each query twice, the second time by the clock and by the backend's CPU.  Queries lie in a table beside the vectors."""
    sql = f'SELECT d FROM (SELECT e {operator} (SELECT e FROM {table}_q WHERE i = %s) AS d FROM {table} ORDER BY 1 LIMIT {NEAREST}) x'
    s.db.execute('SET enable_seqscan = off')
    plan = str(s.db.execute('EXPLAIN ' + sql, (0,)).fetchall())
    if f'using {table}_' not in plan:
        print(f'{name}: not by the index: {plan}')
    right, runs = 0, []
    for i, limit in enumerate(tenth):
        s.db.execute(sql, (i,), prepare=True).fetchall()
        wall, cpu = time.perf_counter(), backend_cpu(s.pid)
        rows = s.db.execute(sql, (i,), prepare=True).fetchall()
        runs.append((backend_cpu(s.pid) - cpu, time.perf_counter() - wall))
        right += sum(d <= limit + EQUAL for d, in rows)
    cpu, wall = np.array(runs).T * 1e3
    print(f'{name}: recall {right / NEAREST / len(tenth):.4f}; a query {np.median(cpu):.2f} ms CPU (least {cpu.min():.2f}, 95 of 100 '
          f'{np.quantile(cpu, .95):.2f}); by the clock {np.median(wall):.2f} (least {wall.min():.2f})', flush=True)


def main():
    arg = argparse.ArgumentParser()
    arg.add_argument('--vectors', required=True)
    arg.add_argument('--queries', required=True)
    arg.add_argument('--copies', type=int, default=1)
    arg.add_argument('--rows', type=int)
    arg.add_argument('--queries-run', type=int, default=200)
    arg.add_argument('--hnsw', action='store_true')
    a = arg.parse_args()
    x = np.load(a.vectors, mmap_mode='r')[:a.rows]
    queries = np.load(a.queries)[:a.queries_run]
    rows, d = len(x) * a.copies, x.shape[1]
    with server(), Side() as s:
        s.db.execute("SET max_parallel_maintenance_workers = 0; SET maintenance_work_mem = '1GB'; SET jit = off; SET plan_cache_mode = force_generic_plan")
        print(f'{rows:,} rows of {d}, {len(queries)} queries', flush=True)
        tenth = fill(s, x, a.copies, queries)
        build(s, 'v_flat', 'CREATE INDEX v_flat ON v USING millrace_flat (e)', 'v', rows)
        s.copy('q', queries)
        s.db.execute('CREATE TABLE v_q AS SELECT row_number() OVER () - 1 AS i, f AS e FROM q; CREATE INDEX ON v_q (i); ANALYZE v_q')
        ask(s, 'v_flat', 'v', 'OPERATOR(millrace.<=>)', tenth)
        if a.hnsw:
            s.db.execute(f'CREATE EXTENSION IF NOT EXISTS vector; CREATE TABLE w AS SELECT e::vector({d}) AS e FROM v; '
                         f'CREATE TABLE w_q AS SELECT i, e::vector({d}) AS e FROM v_q; CREATE INDEX ON w_q (i); DROP INDEX v_flat')
            s.db.execute('ANALYZE w, w_q')
            build(s, 'w_hnsw', 'CREATE INDEX w_hnsw ON w USING hnsw (e vector_cosine_ops)', 'w', rows)
            for ef in (40, 100, 200, 400):
                s.db.execute(f'SET hnsw.ef_search = {ef}')
                ask(s, f'w_hnsw, ef_search {ef}', 'w', '<=>', tenth)


if __name__ == '__main__':
    main()
