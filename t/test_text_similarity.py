#!/usr/bin/env python3
"""Similarity of vectors on a real server against numpy: dimensions 1 to 2,000, all kinds of numbers, what is refused.  Prints TAP."""
# timeout: 300
import os
import pathlib
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, find_pg_config

try:
    import numpy as np
    import psycopg
except ImportError as e:
    tap.skip_all(str(e))
TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_text_similarity")).resolve()
SCALES = (1, 1, 1e-3, 1e18, 1e-22, 3e37, 1e-40)
SQL = """SELECT (public.cosine_similarity(a, b))::float8, a OPERATOR(millrace.<=>) b, a OPERATOR(millrace.<->) b, a OPERATOR(millrace.<#>) b,
    b OPERATOR(millrace.<=>) a, b OPERATOR(millrace.<->) a, b OPERATOR(millrace.<#>) a
    FROM (SELECT %s::float4[] AS a, %s::float4[] AS b) x"""


def close(got, want, tolerance):
    return abs(got - want) <= tolerance


def pairs(rng, n):
    """Random vectors of many kinds; multiples, opposites and neighbours among them."""
    for _ in range(n):
        d = int(rng.integers(1, 2001))
        a = (rng.normal(size=d) * rng.choice(SCALES)).astype(np.float32)
        kind = rng.integers(6)
        b = (rng.normal(size=d) * rng.choice(SCALES)).astype(np.float32)
        if kind == 0:
            b = a
        elif kind == 1:
            b = -a
        elif kind == 2:
            b = (a * np.float32(0.5)).astype(np.float32)
        elif kind == 3:
            b = (a * (1 - 1e-4 * rng.random(d))).astype(np.float32)
        elif kind == 4:
            b = np.where(rng.random(d) < 0.9, 0, b).astype(np.float32)
        yield a, b


def test_numbers(db):
    wrong = dict.fromkeys(("cosine_similarity", "cosine", "L2", "inner product", "symmetry", "range"), 0)
    count = 0
    for a, b in pairs(np.random.default_rng(7), 600):
        similarity, cosine, l2, inner, *other = db.execute(SQL, (a.tolist(), b.tolist()), binary=True).fetchone()
        x, y = a.astype(np.longdouble), b.astype(np.longdouble)
        dot, xx, yy = float((x * y).sum()), (x * x).sum(), (y * y).sum()
        size = float(np.abs(x * y).sum())
        count += 1
        wrong["inner product"] += not close(inner, -dot, 1e-13 * size)
        want = float(np.sqrt(((x - y) ** 2).sum()))
        wrong["L2"] += not close(l2, want, 1e-13 * want)
        wrong["symmetry"] += not all(p == q or (p != p and q != q) for p, q in zip((cosine, l2, inner), other))
        if xx == 0 or yy == 0:
            wrong["cosine"] += cosine == cosine
            continue
        want = float(1 - (x * y).sum() / np.sqrt(xx * yy))
        wrong["cosine"] += not close(cosine, want, 1e-12)
        wrong["cosine_similarity"] += not close(similarity, 1 - want, 1e-7)
        wrong["range"] += not (0 <= cosine <= 2 and l2 >= 0)
    for name, n in wrong.items():
        tap.ok(n == 0, f"{name}: {count} pairs of 1 to 2,000 dimensions, as numpy has it" + (f", {n} are not" if n else ""))


def test_sets(db):
    """A whole table, its vectors stored plain, compressed and out of line; a parallel scan gives the same."""
    rng = np.random.default_rng(8)
    for d, storage in ((384, "plain"), (700, "external"), (700, "main"), (3000, "extended")):
        x = np.round(rng.normal(size=(400, d)), 1).astype(np.float32)
        q = rng.normal(size=d).astype(np.float32)
        db.execute(f"DROP TABLE IF EXISTS v; CREATE TABLE v (id int, e real[]); ALTER TABLE v ALTER e SET STORAGE {storage}")
        with db.cursor().copy("COPY v FROM STDIN") as copy:
            for i, row in enumerate(x):
                copy.write_row((i, row.tolist()))
        want = np.linalg.norm(x.astype(np.float64) - q.astype(np.float64), axis=1)
        got = db.execute("SELECT e OPERATOR(millrace.<->) %s::float4[] FROM v ORDER BY id", (q.tolist(),)).fetchall()
        order = db.execute("SELECT id FROM v ORDER BY e OPERATOR(millrace.<->) %s::float4[] LIMIT 10", (q.tolist(),)).fetchall()
        tap.ok(np.allclose([g for g, in got], want, rtol=1e-12) and [i for i, in order] == np.argsort(want)[:10].tolist(),
               f"{d} dimensions stored {storage}: distances and order")
    db.execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2")
    plan = db.execute("EXPLAIN SELECT id FROM v WHERE e OPERATOR(millrace.<=>) %s::float4[] < 0.9", (q.tolist(),)).fetchall()
    parallel = db.execute("SELECT count(*), sum(e OPERATOR(millrace.<->) %s::float4[]) FROM v", (q.tolist(),)).fetchone()
    tap.ok("Parallel" in str(plan) and parallel[0] == 400 and np.isclose(parallel[1], want.sum(), rtol=1e-12), "parallel scans")
    db.execute("RESET ALL")


def test_refused(db):
    bad = {
        "{1,2,3} {1,2}": ("22000", "vectors have different dimensions: 3 and 2"),
        "{} {}": ("22000", "a vector must have at least one element"),
        "{{1},{2}} {1,2}": ("2202E", "a vector must be an array of one dimension, not 2"),
        "{1,NULL} {1,2}": ("22004", "a vector must not contain NULLs"),
        "{1,2} {NaN,2}": ("22000", "a vector must not contain NaN"),
        "{1,-Infinity} {1,2}": ("22000", "a vector must not contain infinity"),
        "{0,0} {1,Infinity}": ("22000", "a vector must not contain infinity"),
    }
    for text, (state, message) in bad.items():
        seen = []
        for call in ("public.cosine_similarity(%s::real[], %s)", *(f"%s::real[] OPERATOR(millrace.{o}) %s" for o in ("<=>", "<->", "<#>"))):
            try:
                db.execute("SELECT " + call, text.split())
                seen.append(None)
            except psycopg.Error as e:
                seen.append((e.sqlstate, e.diag.message_primary))
        tap.ok(seen == [(state, message)] * 4, f"{text}: {message}" + ("" if seen == [(state, message)] * 4 else f", not {seen}"))


def main():
    with Cluster(find_pg_config(), TMP / "cluster") as c, psycopg.connect(c.dsn(), autocommit=True) as db:
        db.execute("CREATE EXTENSION millrace")
        test_numbers(db)
        test_sets(db)
        test_refused(db)
    tap.done()


main()
