#!/usr/bin/env python3
# timeout: 900
"""Every algorithm on data as they should not be: a right result, or an ERROR that says what to do; nothing half-stored.

The algorithms are those that the server knows, so that a new one is tested without a word here.
"""
import os
import pathlib
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, SqlError, find_pg_config
from lib.training import algorithms

TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_train_edges")).resolve()
WITHOUT_TARGET = ("pca", "kmeans")

# Columns x and y of rows r: (name, features, label, rows)
CASES = [
    ("plain data", "i % 10 AS x, i % 7 AS y", "i % 2", 100),
    ("one row", "i AS x, i AS y", "i", 1),
    ("two rows", "i AS x, -i AS y", "i", 2),
    ("no row", "i AS x, i AS y", "i", 0),
    ("one class only", "i AS x, i % 7 AS y", "1", 100),
    ("a class of one row", "i AS x, i % 7 AS y", "(i = 50)::int", 100),
    ("no target", "i AS x, i % 7 AS y", "NULL::int", 100),
    ("a target that is NULL in half", "i % 10 AS x, i % 7 AS y", "CASE WHEN i % 4 < 2 THEN i % 2 END", 100),
    ("constant columns", "1 AS x, 2 AS y", "i % 2", 100),
    ("a constant column", "i % 10 AS x, 2 AS y", "i % 2", 100),
    ("a column of NULL", "i % 10 AS x, NULL::real AS y", "i % 2", 100),
    ("nothing but NULL", "NULL::real AS x, NULL::real AS y", "i % 2", 100),
    ("some NULL", "i % 10 AS x, CASE WHEN i % 3 > 0 THEN i % 7 END AS y", "i % 2", 100),
    ("NaN", "i % 10 AS x, 'NaN'::float8 AS y", "i % 2", 100),
    ("infinity", "i % 10 AS x, (CASE WHEN i = 5 THEN 'infinity' ELSE i::text END)::float8 AS y", "i % 2", 100),
    ("numbers too large for real", "i % 10 AS x, i * 1e300 AS y", "i % 2", 100),
    ("huge numbers", "i * 1e30 AS x, i % 7 * 1e-30 AS y", "i % 2", 100),
    ("equal columns", "i % 10 AS x, i % 10 AS y", "i % 2", 100),
    ("equal rows of other classes", "1 AS x, i % 2 AS y", "i % 3", 100),
    ("text", "i % 10 AS x, (i % 5)::text AS y", "i % 2", 100),
    ("text that never repeats", "i % 10 AS x, i::text AS y", "i % 2", 300),
    ("1,000 classes", "i % 1000 AS x, i % 31 AS y", "i % 1000", 2000),
    ("10,000 features", "wide(10000, i) AS x, 1 AS y", "i % 2", 40),
    ("arrays of other lengths", "wide(i, i) AS x, 1 AS y", "i % 2", 10),
    ("a query that writes", "writes(i) AS x, 1 AS y", "i % 2", 10),
    ("a division by zero", "1 / (i - 5) AS x, 1 AS y", "i % 2", 10),
]
# What people can act on; 22012 is the query's own error.
EXPECTED = ("22023", "22004", "22012", "25006", "42703", "42804", "54000")


def answer(c, name, algorithm, regression):
    """Whether the answers to a few rows are numbers that can be meant."""
    width = int(c.value(f"SELECT n_inputs FROM millrace.models WHERE name = '{name}' ORDER BY version DESC LIMIT 1"))
    rows = [f"array_fill({v}::real, ARRAY[{width}])" for v in (0, 1, -5, 1e6)]
    if algorithm == "pca":
        sql = "SELECT bool_and(v = v AND abs(v) < 'infinity') FROM unnest(infer('{0}', {1})) v"
    elif regression or algorithm == "kmeans":
        sql = "SELECT predict({1}, '{0}') BETWEEN -3e38 AND 3e38"
    else:
        sql = "SELECT abs(sum(probability) - 1) < 1e-4 AND bool_and(probability BETWEEN 0 AND 1) FROM class_probabilities({1}, '{0}')"
    return all(c.value(sql.format(name, row)) == "t" for row in rows)


def one(c, algorithm, features, label, rows, options, regression):
    """What happened: 'trained', or SQLSTATE and message; raises what should not be."""
    target = algorithm not in WITHOUT_TARGET
    query = f"SELECT {features}{f', {label} AS label' if target else ''} FROM generate_series(1, {rows}) i"
    column = "'label'" if target else "NULL"
    query = query.replace("'", "''")
    try:
        c.psql(f"SET client_min_messages = error; SELECT millrace.train_model('edge', '{algorithm}', '{query}', {column}, '{options}')", timeout=300)
    except SqlError as e:
        return str(e)
    fine = answer(c, "edge", algorithm, regression)
    c.psql("SELECT millrace.drop_model('edge')")
    return "trained" if fine else "answers that are none"


def test_algorithm(c, algorithm, options, regression):
    wrong = []
    trained = 0
    for name, features, label, rows in CASES:
        if regression:
            label = label.replace("::int", "::int::float8")
        said = one(c, algorithm, features, label, rows, options, regression)
        if said == "trained":
            trained += 1
            continue
        state = re.search(r"(?:ERROR|FATAL):\s+(\w{5}):", said)
        if os.environ.get("VERBOSE"):
            tap.note(f"{name}: {said}")
        if not state or state.group(1) not in EXPECTED:
            wrong.append((name, said[:300]))
        elif "HINT: " not in said and state.group(1) != "22012":
            wrong.append((name, "no hint: " + said[:300]))
        elif c.value("SELECT count(*) FROM millrace.models WHERE name = 'edge' AND retired_at IS NULL") != "0":
            wrong.append((name, "a version was stored"))
    what = f"{algorithm}{', regression' if regression else ''}"
    if not tap.ok(not wrong, f"{what}: {trained} of {len(CASES)} trained, the others refused with a reason"):
        for name, said in wrong:
            tap.note(f"{name}: {said}")
    tap.ok(trained > 0, f"{what}: plain data are no problem")


def regressors(c):
    for name in algorithms(c):
        if name in WITHOUT_TARGET:
            continue
        if name == "ridge":
            yield name, "{}"
            continue
        try:
            c.psql(f"SELECT millrace.train_model('x', '{name}', 'SELECT 1 AS x', 'y', '{{\"task\": \"regression\"}}')")
        except SqlError as e:
            if 'no parameter "task"' not in str(e) and '"task" must be' not in str(e):
                yield name, '{"task": "regression"}'


def main():
    with Cluster(find_pg_config(), TMP / "cluster", conf={"jit": "off"}) as c:
        c.psql("""CREATE EXTENSION millrace; CREATE TABLE written (i int);
            CREATE FUNCTION wide(n int, seed int) RETURNS real[] LANGUAGE sql IMMUTABLE AS
                'SELECT array_agg((hashint4(seed * 31 + k) % 1000)::real) FROM generate_series(1, n) k';
            CREATE FUNCTION writes(i int) RETURNS int LANGUAGE plpgsql AS 'BEGIN INSERT INTO written VALUES (i); RETURN i; END'""")
        for name in algorithms(c):
            if name != "ridge":
                test_algorithm(c, name, "{}", False)
        for name, options in regressors(c):
            test_algorithm(c, name, options, True)
        tap.same(c.value("SELECT count(*) FROM written"), "0", "no query wrote")
        bad = [line for line in c.logs().splitlines() if "terminated by signal" in line or "PANIC" in line or "XX000" in line]
        tap.same(bad, [], "no process died, no internal error")
    tap.done()


if __name__ == "__main__":
    main()
