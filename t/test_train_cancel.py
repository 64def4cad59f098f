#!/usr/bin/env python3
# timeout: 1800
"""A cancel stops within 100 ms, at random moments: every algorithm's training; reading, tuning, challenges; evaluation,
importances, metrics, monitors, pictures.

What counts is the CPU time that the backend spends after the signal, since the machine may be busy.  The full form takes
a million rows of 30 features.
"""
import os
import pathlib
import random
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, SqlError, find_pg_config
from lib.training import algorithms

TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_train_cancel")).resolve()
FULL = bool(os.environ.get("MILLRACE_FULL"))
ROUNDS = 5 if FULL else 4
ROWS, FEATURES = (1000000, 30) if FULL else (20000, 20)
LIMIT_MS = 100
finished = []                   # statements that were through before their cancel

# Long enough to be caught in; algorithms not named here train on the wide rows with their defaults.
LONG = {
    "random_forest": ("rows", "n_estimators", 5000), "extra_trees": ("rows", "n_estimators", 5000),
    "gradient_boosting": ("rows", "n_estimators", 5000), "logistic_regression": ("wide", "max_iter", 100000),
    "kmeans": ("rows", "n_clusters", 300), "rbf_svm": ("rows", None, None), "linear_svm": ("wide", "max_iter", 100000),
}


def cpu_ms(pid):
    with open(f"/proc/{pid}/schedstat") as f:
        return int(f.read().split()[0]) / 1e6


def cancelled(session, pid, sql, after):
    """(CPU ms, wall ms) from the signal to the end of the statement; None: it was through before."""
    session.send(sql)
    time.sleep(after)
    cpu, wall = cpu_ms(pid), time.monotonic()
    os.kill(pid, signal.SIGINT)
    try:
        session.collect(120)
    except SqlError as e:
        if "57014" not in str(e):
            raise
        return cpu_ms(pid) - cpu, (time.monotonic() - wall) * 1000
    return None


def check(session, pid, sql, name, longest):
    """Cancel at random moments of the first `longest` seconds."""
    seen = []
    for _ in range(ROUNDS * 3):
        if len(seen) == ROUNDS:
            break
        one = cancelled(session, pid, sql, random.uniform(0.02, longest))
        if one:
            seen.append(one)
        else:
            finished.append(name)
            longest = max(longest / 2, 0.03)
    if not seen:
        tap.note(f"{name}: through too fast to be caught")
        return
    worst = max(s[0] for s in seen)
    tap.ok(worst < LIMIT_MS, f"{name}: {worst:.0f} ms of CPU after a cancel at most ({max(s[1] for s in seen):.0f} ms by the clock)")


# What is done with models and rows, but for training: (name, statement).  It is repeated within the statement where it is short.
ROWS_OF = "SELECT y, x FROM rows"
OTHERS = [
    ("evaluate_model", f"SELECT millrace.evaluate_model('duel', '{ROWS_OF}', 'y') FROM generate_series(1, 50)"),
    ("cross_validate", f"SELECT count(*) FROM millrace.cross_validate('logistic_regression', '{ROWS_OF}', 'y', '{{\"folds\": 20}}')"),
    ("permutation_importance", f"SELECT count(*) FROM millrace.permutation_importance('duel', '{ROWS_OF}', 'y')"),
    ("partial_dependence", f"SELECT count(*) FROM millrace.partial_dependence('duel', '{ROWS_OF}', 'x[1]')"),
    ("classify_rows", "SELECT count(*) FROM millrace.classify_rows((SELECT array_agg(x) FROM rows), 'duel'), generate_series(1, 50)"),
    ("roc_auc", "SELECT millrace.roc_auc(y = 1, x[1] + x[2] / 1000 + i / 1e9) FROM rows, generate_series(1, 50) i"),
    ("roc_curve", "SELECT millrace.roc_curve(y = 1, x[1] + x[2] / 1000 + i / 1e9) FROM rows, generate_series(1, 50) i"),
    ("confusion_matrix", "SELECT millrace.confusion_matrix(y::text, i::text) FROM rows, generate_series(1, 50) i"),
    ("sketch_agg", "SELECT millrace.sketch_agg(x[1] * i) FROM rows, generate_series(1, 50) i"),
    ("plot_histogram", "SELECT length(millrace.plot_histogram('SELECT x[1] * i FROM rows, generate_series(1, 50) i'))"),
    ("plot_lines", "SELECT length(millrace.plot_lines('SELECT x[1] * i, x[2], x[3] FROM rows, generate_series(1, 50) i'))"),
    ("create_monitor", """SELECT millrace.create_monitor('watch ' || clock_timestamp(), 'SELECT x, y, now() - y * ''1 day''::interval AS t FROM rows, generate_series(1, 50)',
        '{"time": "t", "window": "1 day", "reference": {"query": "SELECT x, y, now() AS t FROM rows, generate_series(1, 50)"}}')"""),
]


def main():
    random.seed()
    with Cluster(find_pg_config(), TMP / "cluster", conf={"max_worker_processes": 12, "autovacuum": "off", "jit": "off"}) as c:
        c.psql("CREATE EXTENSION millrace")
        for table, rows, features in (("rows", ROWS, FEATURES), ("wide", 3000, 600)):
            c.psql(f"""CREATE TABLE {table} AS SELECT ARRAY(SELECT (hashint4(i * 31 + k) % 1000)::real FROM generate_series(1, {features}) k) AS x,
                i % 7 AS y FROM generate_series(1, {rows}) i""")
        s = c.session()
        s.run("SET millrace.train_memory = '4GB'; SET client_min_messages = error")
        pid = s.pid()

        for name in algorithms(c):
            table, option, value = LONG.get(name, ("wide", None, None))
            target = "NULL" if name in ("pca", "kmeans") else "'y'"
            query = f"SELECT x{'' if target == 'NULL' else ', y'} FROM {table}"
            options = f'{{"{option}": {value}}}' if option else "{}"
            sql = f"SELECT millrace.train_model('no', '{name}', '{query}', {target}, '{options}')"
            check(s, pid, sql, name, 10 if FULL and table == "rows" else 1.5)
        read = "SELECT millrace.train_model('no', 'pca', 'SELECT i AS a, i * 2 AS b, i::text AS c FROM generate_series(1, 100000000) i', NULL)"
        check(s, pid, read.replace(", i::text AS c", ""), "reading numbers", 1)
        check(s, pid, read.replace("'pca'", "'random_forest'").replace("NULL", "'c'").replace("i::text", "i % 60000"), "reading labels", 1)
        check(s, pid, "SELECT millrace.train_model('no', 'pca', 'SELECT x FROM wide, generate_series(1, 1000)', NULL)", "reading arrays", 1)

        tune = """SELECT millrace.tune_model('no', 'random_forest', 'SELECT x, y FROM rows', 'y', '{{"n_estimators": 200}}', '{{"workers": {}}}')"""
        check(s, pid, tune.format(0), "tuning", 2)
        check(s, pid, tune.format(2), "tuning with workers", 2)
        c.wait_for("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker'", timeout=10)
        tap.ok(True, "and its workers end")

        c.psql("SELECT millrace.train_model('duel', 'random_forest', 'SELECT x, y FROM rows', 'y', '{\"n_estimators\": 20, \"max_depth\": 12, \"oob_score\": false}')"
               " FROM generate_series(1, 2); SELECT millrace.promote_model('duel', 1)", timeout=600)
        check(s, pid, "SELECT millrace.challenge_model('duel', 2, 'SELECT x, y FROM rows', 'y', '{\"resamples\": 100000}')", "a challenge", 2)
        tap.same(c.value("SELECT count(*) FROM millrace.models WHERE name = 'no'"), str(len(finished)), "nothing is stored but what was through before")
        tap.same(c.value("SELECT count(*) FROM millrace.tunings"), "0", "no tuning either")
        tap.same(c.value("SELECT count(*) FROM millrace.training_progress"), "0", "and nothing is shown as at work")
        for name, sql in OTHERS:
            check(s, pid, sql, name, 5 if FULL else 2)
    tap.done()


if __name__ == "__main__":
    main()
