#!/usr/bin/env python3
"""Similarity of vectors from SQL, one core: operators per row; and codes of vectors alone: encoding, scanning, recall.

    bench/similarity.py [--vectors x.npy] [--queries q.npy] [--rows N]

Peers: pgvector's operators on a column of type vector, where the server (that of PGHOST, else a private cluster)
has that extension, and numpy on an array in memory.  CPU microseconds a row, the scan of the table taken off.
Vectors are rows of float32; without files they are random, which is harder for codes than any model's are.
Needs numpy, psycopg; build/bench/similarity_codes is built for the codes.
"""
import argparse
import pathlib
import subprocess
import sys

from common.side import ROOT, Side

import numpy as np

OPERATORS = (('cosine', '<=>'), ('L2', '<->'), ('inner product', '<#>'))
ROUNDS = 7


def operators(x, q):
    n, d = x.shape
    with Side() as s:
        s.copy('v', x)
        peer = s.one("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'")
        if peer:
            s.db.execute(f'CREATE EXTENSION IF NOT EXISTS vector; CREATE TEMPORARY TABLE w AS SELECT f::vector({d}) AS f FROM v; ANALYZE w')
        text = '{' + ','.join(map(repr, map(float, q))) + '}'
        print(f'{n} rows of {d}; CPU microseconds a row, least of {ROUNDS} (median)')
        for _ in range(ROUNDS):
            s.clock('scan', lambda: s.one('SELECT count(f) FROM v'))
            if peer:
                s.clock('scan of vector', lambda: s.one('SELECT count(f) FROM w'))
            for name, op in OPERATORS:
                s.clock(name, lambda op=op: s.one(f"SELECT max(f OPERATOR(millrace.{op}) '{text}'::real[]) FROM v"))
                if peer:
                    s.clock('pgvector ' + name, lambda op=op: s.one(f"SELECT max(f {op} '[{text[1:-1]}]'::vector) FROM w"))
            norms = np.linalg.norm(x, axis=1)
            s.clock('numpy cosine', lambda: (1 - x @ q / (norms * np.linalg.norm(q))).max())
            s.clock('numpy L2', lambda: np.linalg.norm(x - q, axis=1).max())
            s.clock('numpy inner product', lambda: (x @ q).max())
        for name, _ in OPERATORS:
            line = f'{name:14}'
            for who, scan in (('', 'scan'), ('pgvector ', 'scan of vector'), ('numpy ', None)):
                if who + name in s.runs:
                    of = [(f(who + name).cpu - (f(scan).cpu if scan else 0)) / n * 1e6 for f in (s.least, s.median)]
                    line += f'  {who or "millrace "}{of[0]:.3f} ({of[1]:.3f})'
            print(line, flush=True)
        print(f'the scan alone: {s.least("scan").cpu / n * 1e6:.3f}' + (f', of vector {s.least("scan of vector").cpu / n * 1e6:.3f}' if peer else ''))


def codes(vectors, queries):
    subprocess.run(['make', '-s', 'build/bench/similarity_codes'], cwd=ROOT, check=True)
    tool = str(ROOT / 'build' / 'bench' / 'similarity_codes')
    for copies, isa in ((1, 'avx512'), (1, 'avx2'), (5, 'avx512')):
        print(f'codes, each vector {copies} times, {isa}', flush=True)
        subprocess.run([tool, vectors, queries, '1', str(copies), '100', {'avx2': '2', 'avx512': '3'}[isa]], check=True)


def main():
    arg = argparse.ArgumentParser()
    arg.add_argument('--vectors')
    arg.add_argument('--queries')
    arg.add_argument('--rows', type=int, default=50_000)
    arg.add_argument('--dimensions', type=int, default=384)
    arg.add_argument('--no-codes', action='store_true')
    a = arg.parse_args()
    rng = np.random.default_rng(1)
    folder = pathlib.Path(ROOT / 'tmp')
    folder.mkdir(exist_ok=True)
    if not a.vectors:
        a.vectors, a.queries = str(folder / 'vectors.npy'), str(folder / 'queries.npy')
        np.save(a.vectors, rng.normal(size=(200_000, a.dimensions)).astype('f'))
        np.save(a.queries, rng.normal(size=(100, a.dimensions)).astype('f'))
    operators(np.ascontiguousarray(np.load(a.vectors, mmap_mode='r')[:a.rows]), np.load(a.queries)[0])
    if not a.no_codes:
        codes(a.vectors, a.queries)


if __name__ == '__main__':
    sys.exit(main())
