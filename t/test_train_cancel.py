#!/usr/bin/env python3
# timeout: 900
"""A cancel stops a training within 100 ms: every algorithm, at random moments, in reading, tuning and challenges.

What counts is the CPU time that the backend spends after the signal, since the machine may be busy.
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
ROUNDS = 12 if os.environ.get("MILLRACE_FULL") else 4
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


def main():
    random.seed()
    with Cluster(find_pg_config(), TMP / "cluster", conf={"max_worker_processes": 12, "autovacuum": "off", "jit": "off"}) as c:
        c.psql("CREATE EXTENSION millrace")
        c.psql("""CREATE TABLE rows AS SELECT ARRAY(SELECT (hashint4(i * 31 + k) % 1000)::real FROM generate_series(1, 20) k) AS x,
            i % 7 AS y FROM generate_series(1, 20000) i;
            CREATE TABLE wide AS SELECT ARRAY(SELECT (hashint4(i * 31 + k) % 1000)::real FROM generate_series(1, 600) k) AS x,
            i % 7 AS y FROM generate_series(1, 3000) i""")
        s = c.session()
        s.run("SET millrace.train_memory = '4GB'; SET client_min_messages = error")
        pid = s.pid()

        for name in algorithms(c):
            table, option, value = LONG.get(name, ("wide", None, None))
            target = "NULL" if name in ("pca", "kmeans") else "'y'"
            query = f"SELECT x{'' if target == 'NULL' else ', y'} FROM {table}"
            options = f'{{"{option}": {value}}}' if option else "{}"
            sql = f"SELECT millrace.train_model('no', '{name}', '{query}', {target}, '{options}')"
            check(s, pid, sql, name, 1.5)
        read = "SELECT millrace.train_model('no', 'pca', 'SELECT i AS a, i * 2 AS b, i::text AS c FROM generate_series(1, 100000000) i', NULL)"
        check(s, pid, read.replace(", i::text AS c", ""), "reading numbers", 1)
        check(s, pid, read.replace("'pca'", "'random_forest'").replace("NULL", "'c'").replace("i::text", "i % 60000"), "reading labels", 1)
        check(s, pid, "SELECT millrace.train_model('no', 'pca', 'SELECT x FROM wide, generate_series(1, 1000)', NULL)", "reading arrays", 1)

        tune = """SELECT millrace.tune_model('no', 'random_forest', 'SELECT x, y FROM rows', 'y', '{{"n_estimators": 200}}', '{{"workers": {}}}')"""
        check(s, pid, tune.format(0), "tuning", 2)
        check(s, pid, tune.format(2), "tuning with workers", 2)
        c.wait_for("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker'", timeout=10)
        tap.ok(True, "and its workers end")

        c.psql("SELECT millrace.train_model('duel', 'random_forest', 'SELECT x, y FROM rows', 'y', '{\"n_estimators\": 20, \"oob_score\": false}')"
               " FROM generate_series(1, 2); SELECT millrace.promote_model('duel', 1)")
        check(s, pid, "SELECT millrace.challenge_model('duel', 2, 'SELECT x, y FROM rows', 'y', '{\"resamples\": 100000}')", "a challenge", 2)
        tap.same(c.value("SELECT count(*) FROM millrace.models WHERE name = 'no'"), str(len(finished)), "nothing is stored but what was through before")
        tap.same(c.value("SELECT count(*) FROM millrace.tunings"), "0", "no tuning either")
        tap.same(c.value("SELECT count(*) FROM millrace.training_progress"), "0", "and nothing is shown as at work")
    tap.done()


if __name__ == "__main__":
    main()
