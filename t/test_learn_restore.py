#!/usr/bin/env python3
# timeout: 600
"""A model saved, dumped and restored predicts the same: every algorithm, into a database of another name.

All that learning remembers comes back with it (versions, evaluations, tunings, challenges, monitors and their sketches,
schedules), and goes on where it was.
"""
import os
import pathlib
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, find_pg_config
from lib.training import algorithms

TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_learn_restore")).resolve()
COPY = "a copy, by Another name"

# x and y decide the label; z is their sum, a number to predict.
DATA = """CREATE TABLE t AS SELECT i, x, y, (ARRAY['a', 'b', 'c'])[1 + i % 3] AS kind, 2 * x - y AS z,
        CASE WHEN x * x + y * y > 8 THEN 'far' WHEN x < 0 THEN 'left' ELSE 'right' END AS side, '2026-01-05'::timestamptz + i * interval '20 min' AS seen
    FROM (SELECT i, (i * 7919 % 601) / 100.0 - 3 AS x, (i * 104729 % 599) / 100.0 - 3 AS y FROM generate_series(1, 3000) i) s"""
# A query for each of the extension's tables, of rows that a dump has; source_workers says what runs now.
STATE = """SELECT format('SELECT %L, md5(string_agg(t::text, E''\\n'' ORDER BY t::text)), count(*) FROM %s t %s', c.oid::regclass, c.oid::regclass,
        extcondition[array_position(extconfig, c.oid)])
    FROM pg_extension e JOIN pg_depend d ON refobjid = e.oid AND deptype = 'e' JOIN pg_class c ON c.oid = objid
    WHERE extname = 'millrace' AND relkind = 'r' AND relname <> 'source_workers' ORDER BY 1"""
ANSWERS = "SELECT md5(string_agg(infer('{0}', ARRAY[x, y]::real[])::text, ' ' ORDER BY i)) FROM t"


def state(c, **db):
    return [c.psql(sql, **db)[0] for sql, in c.psql(STATE, **db)]


def goes_on(c, db, name, sql):
    """The statement gives a value in the copy: no sequence is behind its table, nothing is missing."""
    value = c.psql(sql, db=db)[0][0]
    tap.ok(value not in (None, "", "0"), f"the copy goes on: {name} ({value})")


def main():
    with Cluster(find_pg_config(), TMP / "cluster") as c:
        c.psql("CREATE EXTENSION millrace; " + DATA)
        names = algorithms(c)
        for name in names:
            target = {"pca": None, "kmeans": None, "ridge": "z"}.get(name, "side")
            column = f", {target}" if target else ""
            quoted = f"'{target}'" if target else "NULL"
            c.psql(f"SET client_min_messages = error; SELECT millrace.train_model('{name}', '{name}', 'SELECT x, y{column} FROM t', {quoted})")
        c.psql("""SELECT millrace.train_model('kinds', 'gradient_boosting', 'SELECT x, y, kind, side FROM t', 'side');
            SELECT millrace.evaluate_model('random_forest', 'SELECT x, y, side FROM t', 'side');
            SELECT millrace.tune_model('random_forest', 'random_forest', 'SELECT x, y, side FROM t', 'side', '{"n_estimators": [2, 30]}', '{"cv": 2}');
            SELECT millrace.promote_model('random_forest', 1);
            SELECT millrace.challenge_model('random_forest', 2, 'SELECT x, y, side FROM t', 'side');
            SELECT millrace.create_monitor('watch', 'SELECT i, seen, x, kind, side FROM t', '{"time": "seen", "key": "i", "window": "1 week",
                "prediction": ["side"], "label": "side", "label_query": "SELECT i, side FROM t"}');
            SELECT millrace.run_monitor('watch', '2026-02-02');
            SELECT millrace.create_schedule('nothing', '1 day', 'SELECT 1')""")
        before = state(c)
        answers = [c.value(ANSWERS.format(name)) for name in names]

        c.program("pg_dump", "-Fc", "-f", TMP / "dump", "postgres")
        c.program("createdb", COPY)
        c.program("pg_restore", "--exit-on-error", "-d", COPY, TMP / "dump")
        db = {"db": COPY}
        filled = [row for row in before if row[2] != "0"]
        tap.same([row[0] for row in filled if row not in state(c, **db)], [], f"{len(filled)} tables with rows come back as they were")
        tap.same(state(c, **db), before, "and no other has any")
        for name, want in zip(names, answers):
            tap.same(c.value(ANSWERS.format(name), **db), want, f"{name} answers the same")
        kinds = "SELECT md5(string_agg((classify(millrace.model_features('kinds', t), 'kinds'))::text, ' ' ORDER BY i)) FROM t"
        tap.same(c.value(kinds, **db), c.value(kinds), "so does a model with categories")
        live = "SELECT string_agg(version || ' ' || live, ', ' ORDER BY live) FROM millrace.model_history WHERE name = 'random_forest'"
        tap.same(c.value(live, **db), c.value(live), "what was live at any time is known")
        explained = "SELECT sum(contribution) FROM explain('random_forest', '{1, 1}') WHERE label = 'far'"
        tap.same(c.value(explained, **db), c.value(explained), "explanations, too")

        goes_on(c, COPY, "an evaluation", "SELECT millrace.evaluate_model('random_forest', 'SELECT x, y, side FROM t', 'side')")
        goes_on(c, COPY, "a tuning", "SELECT millrace.tune_model('random_forest', 'knn', 'SELECT x, y, side FROM t', 'side', '{\"n_neighbors\": [1, 9]}', '{\"cv\": 2}')")
        goes_on(c, COPY, "a challenge", "SELECT millrace.challenge_model('random_forest', 3, 'SELECT x, y, side FROM t', 'side') ->> 'reason'")
        goes_on(c, COPY, "the monitor", "SELECT millrace.run_monitor('watch', '2026-02-16')")
        goes_on(c, COPY, "an alias", "SELECT millrace.rollback_model('random_forest') FROM millrace.promote_model('random_forest', 3)")
        goes_on(c, COPY, "what is due", "SELECT count(*) FROM millrace.run_due('2100-01-01')")
        tap.same(state(c), before, "the original has seen nothing of it")
    tap.done()


if __name__ == "__main__":
    main()
