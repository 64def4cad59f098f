#!/usr/bin/env python3
# timeout: 900
"""What is done with models, on data as they should not be: evaluation, tuning, challenges, importances, folds, monitors, pictures.

A right result, or an ERROR that says what to do; nothing half-stored.  The data are those of t/test_train_edges.py.
"""
import os
import pathlib
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, SqlError, find_pg_config
from lib.training import EDGE_FUNCTIONS, EDGES, EXPECTED

TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_learn_edges")).resolve()
# Of a model of x and y; {query} stands within quotes.
USES = [
    ("evaluate_model", "SELECT millrace.evaluate_model('{model}', '{query}', 'label')"),
    ("challenge_model", "SELECT millrace.challenge_model('{model}', 2, '{query}', 'label', '{{\"resamples\": 100}}')"),
    ("permutation_importance", "SELECT sum(importance) FROM millrace.permutation_importance('{model}', '{query}', 'label')"),
    ("partial_dependence", "SELECT sum(average) FROM millrace.partial_dependence('{model}', '{query}', 'x')"),
    ("classify", "SELECT count(classify(millrace.model_features('{model}', q), '{model}')) FROM ({plain}) q"),
    ("explain", "SELECT count(e.contribution) FROM ({plain}) q, LATERAL explain('{model}', millrace.model_features('{model}', q)) e"),
]
# Of the query alone.
OTHERS = [
    ("cross_validate, forest", "SELECT count(*) FROM millrace.cross_validate('random_forest', '{query}', 'label', '{{\"n_estimators\": 3}}')"),
    ("cross_validate, ridge", "SELECT count(*) FROM millrace.cross_validate('ridge', '{query}', 'label')"),
    ("tune_model, boosting", "SELECT millrace.tune_model('tuned', 'gradient_boosting', '{query}', 'label', '{{\"max_iter\": [1, 2]}}', '{{\"cv\": 2}}')"),
    ("tune_model, knn", "SELECT millrace.tune_model('tuned', 'knn', '{query}', 'label', '{{\"n_neighbors\": [1, 2]}}', '{{\"cv\": 2}}')"),
    ("a monitor", "SELECT millrace.create_monitor('watch', 'SELECT *, ''2026-01-05''::timestamptz + row_number() OVER () * interval ''1 h'' AS t FROM ({query}) q', "
     "'{{\"time\": \"t\", \"window\": \"1 day\", \"min_rows\": 5, \"prediction\": [\"label\"]}}'); SELECT millrace.run_monitor('watch', '2026-06-01')"),
    ("plot_histogram", "SELECT length(millrace.plot_histogram('SELECT x FROM ({query}) q'))"),
    ("plot_lines", "SELECT length(millrace.plot_lines('{query}'))"),
]
COUNTS = """SELECT (SELECT count(*) FROM millrace.evaluations) + (SELECT count(*) FROM millrace.challenges) + (SELECT count(*) FROM millrace.tunings)
    + (SELECT count(*) FROM millrace.trials) + (SELECT count(*) FROM millrace.models) + (SELECT count(*) FROM millrace.monitors)
    + (SELECT count(*) FROM millrace.monitor_sketches) + (SELECT count(*) FROM millrace.drift)"""


def test_use(c, use, sql, model):
    wrong = []
    through = 0
    for name, features, label, rows in EDGES:
        plain = f"SELECT {features}, {label} AS label FROM generate_series(1, {rows}) i"
        # A monitor's query stands in quotes within its own.
        query = plain.replace("'", "''")
        before = c.value(COUNTS)
        try:
            c.psql("BEGIN; SET LOCAL client_min_messages = error; " + sql.format(model=model, query=query, plain=plain) + "; ROLLBACK")
            through += 1
            continue
        except SqlError as e:
            said = str(e)
        state = re.search(r"(?:ERROR|FATAL):\s+(\w{5}):", said)
        if os.environ.get("VERBOSE"):
            tap.note(f"{name}: {said}")
        if not state or state.group(1) not in EXPECTED:
            wrong.append((name, said[:400]))
        elif "HINT: " not in said and "DETAIL: " not in said and state.group(1) != "22012":
            wrong.append((name, "neither hint nor detail: " + said[:400]))
        elif c.value(COUNTS) != before:
            wrong.append((name, "something was stored"))
    what = f"{use}{', ' + model if model else ''}"
    if not tap.ok(not wrong, f"{what}: {through} of {len(EDGES)} through, the others refused with a reason"):
        for name, said in wrong:
            tap.note(f"{name}: {said}")
    tap.ok(through > 0, f"{what}: plain data are no problem")


def main():
    with Cluster(find_pg_config(), TMP / "cluster", conf={"jit": "off"}) as c:
        c.psql("CREATE EXTENSION millrace; " + EDGE_FUNCTIONS)
        for model in ("random_forest", "logistic_regression"):
            for _ in range(2):
                c.psql(f"SELECT millrace.train_model('{model}', '{model}', 'SELECT i % 10 AS x, i % 7 AS y, i % 2 AS label FROM generate_series(1, 100) i', 'label')")
            for use, sql in USES:
                test_use(c, use, sql, model)
        for use, sql in OTHERS:
            test_use(c, use, sql, "")
        tap.same(c.value("SELECT count(*) FROM written"), "0", "no query wrote")
        bad = [line for line in c.logs().splitlines() if "terminated by signal" in line or "PANIC" in line or "XX000" in line]
        tap.same(bad, [], "no process died, no internal error")
    tap.done()


if __name__ == "__main__":
    main()
