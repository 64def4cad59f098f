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
from lib.training import EDGE_FUNCTIONS, EDGES, EXPECTED, algorithms

TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_train_edges")).resolve()
WITHOUT_TARGET = ("pca", "kmeans")


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
    for name, features, label, rows in EDGES:
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
    if not tap.ok(not wrong, f"{what}: {trained} of {len(EDGES)} trained, the others refused with a reason"):
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
        c.psql("CREATE EXTENSION millrace; " + EDGE_FUNCTIONS)
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
