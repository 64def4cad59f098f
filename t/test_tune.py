#!/usr/bin/env python3
# timeout: 900
"""Tuning, challenges and their history on a real server: parallel workers, concurrency, rights, dump and restore.

Scores are compared with scikit-learn's cross_val_score of the same folds where that is installed.
"""
import json
import os
import pathlib
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, SqlError, find_pg_config

TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_tune")).resolve()
ROWS = """CREATE TABLE points AS SELECT i AS id, x, y, CASE WHEN x * x + y * y > 36 THEN 'far' WHEN x < 0 THEN 'left' ELSE 'right' END AS side
    FROM (SELECT i, (hashint4(i) % 1000) / 100.0 AS x, (hashint4(-i) % 1000) / 100.0 AS y FROM generate_series(1, 4000) i) s"""
QUERY = "SELECT x, y, side FROM points ORDER BY id"
SPACE = '{"max_depth": [2, 4, 8, null], "min_samples_leaf": {"min": 1, "max": 20, "int": true, "log": true}, "n_estimators": 12}'


def tune(c, name, options, algorithm="random_forest", space=SPACE, **where):
    """The row of millrace.tunings and its trials."""
    c.psql(f"SELECT millrace.tune_model('{name}', '{algorithm}', '{QUERY}', 'side', '{space}', '{json.dumps(options)}')", **where)
    t = json.loads(c.value("SELECT to_jsonb(t) FROM millrace.tunings t ORDER BY id DESC LIMIT 1", **where))
    t["all"] = json.loads(c.value(f"""SELECT jsonb_agg(jsonb_build_array(trial, parameters, scores, state, rung) ORDER BY trial)
        FROM millrace.trials WHERE tuning = {t['id']}""", **where))
    return t


def test_workers(c):
    """The same trials, scores and bytes whoever does the work."""
    for search in ("random", "halving"):
        options = {"search": search, "n_trials": 9, "cv": 3, "seed": 5}
        alone = tune(c, "alone", options)
        helped = tune(c, "helped", dict(options, workers=3))
        tap.same(alone["workers"], 0, f"{search}: no worker unless asked")
        tap.ok(helped["workers"] > 0, f"{search}: {helped['workers']} workers helped")
        tap.ok(alone["all"] == helped["all"], f"{search}: all {len(alone['all'])} trials have equal scores, to the last bit")
        tap.same(*[c.value(f"SELECT encode(sha256, 'hex') FROM millrace.models WHERE name = '{n}' ORDER BY version DESC LIMIT 1")
                   for n in ("alone", "helped")], f"{search}: and the versions equal bytes")
    none = tune(c, "alone", {"search": "halving", "n_trials": 9, "cv": 3, "seed": 5, "workers": 2}, db="no_workers")
    tap.same(none["workers"], 0, "without a free worker the tuning goes on")
    tap.ok(none["all"] == alone["all"], "with the same outcome")
    # rows of a transaction that nobody else sees, of a temporary table
    c.psql(f"""BEGIN; CREATE TEMP TABLE mine AS SELECT * FROM points; DELETE FROM points WHERE id > 3000;
        SELECT millrace.tune_model('hidden', 'random_forest', 'SELECT x, y, side FROM mine UNION ALL SELECT x, y, side FROM points', 'side',
            '{SPACE}', '{{"n_trials": 3, "cv": 2, "workers": 2}}'); COMMIT; INSERT INTO points SELECT * FROM mine WHERE id > 3000""".replace(
        "COMMIT;", "COMMIT; "))
    tap.same(c.value("SELECT rows FROM millrace.tunings WHERE name = 'hidden'"), "7000", "workers see the caller's own uncommitted rows")


def test_visible(c):
    """A tuning at work, seen by its role and by a monitor, by nobody else."""
    c.psql("""CREATE ROLE maker LOGIN; CREATE ROLE other LOGIN; CREATE ROLE watcher LOGIN; GRANT millrace_modeler TO maker, other;
        GRANT millrace_monitor TO watcher; GRANT SELECT ON points TO maker""")
    s = c.session(user="maker")
    pid = s.pid()
    s.send(f"SELECT millrace.tune_model('slow', 'random_forest', '{QUERY}', 'side', '{{\"n_estimators\": [1500, 1501]}}', '{{\"workers\": 2}}')")
    seen = "SELECT count(*) > 1 FROM millrace.training_progress WHERE {} = pid OR leader_pid = {}".format(pid, pid)
    c.wait_for(seen, user="maker")
    tap.ok(True, "its role sees it and its workers")
    tap.same(c.value(seen, user="watcher"), "t", "so does a monitor")
    tap.same(c.value("SELECT count(*) FROM millrace.training_progress", user="other"), "0", "another modeler does not")
    row = c.psql(f"SELECT command, model, algorithm, phase, rows_read, total FROM millrace.training_progress WHERE pid = {pid}")
    tap.same(row, [("tune_model", "slow", "random_forest", "tuning", "4000", row[0][5])], "what it is at")
    c.wait_for(f"SELECT iteration > 0 AND time_left > '0' FROM millrace.training_progress WHERE pid = {pid}", timeout=120)
    tap.ok(True, "and how long it may take")
    c.psql(f"SELECT pg_terminate_backend({pid})")
    c.wait_for("SELECT count(*) = 0 FROM millrace.training_progress")
    c.wait_for("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker'")
    tap.ok(True, "a session that is terminated leaves neither a row nor a worker")
    tap.same(c.value("SELECT count(*) FROM millrace.tunings WHERE name = 'slow'"), "0", "and nothing is stored")

    s = c.session()
    pid = s.pid()
    s.send(f"SELECT millrace.train_model('slow', 'random_forest', '{QUERY}', 'side', '{{\"n_estimators\": 3000}}')")
    c.wait_for(f"SELECT phase = 'training' AND iteration > 0 AND total = 3000 AND time_left IS NOT NULL FROM millrace.training_progress WHERE pid = {pid}")
    tap.ok(True, "a training shows its trees and the time left")
    c.psql(f"SELECT pg_cancel_backend({pid})")
    try:
        s.collect()
    except SqlError:
        pass
    tap.same(c.value("SELECT count(*) FROM millrace.training_progress"), "0", "a cancelled one shows nothing")


def test_worker_dies(c):
    """A worker that is terminated ends the tuning with an error, and nothing stays."""
    s = c.session()
    s.send(f"SELECT millrace.tune_model('slow', 'random_forest', '{QUERY}', 'side', '{{\"n_estimators\": [1500, 1501]}}', '{{\"workers\": 2}}')")
    c.wait_for("SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker'")
    time.sleep(0.3)
    c.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'parallel worker'")
    try:
        s.collect(120)
        tap.ok(False, "a tuning whose worker is terminated fails")
    except SqlError as e:
        tap.ok("57P01" in str(e) or "connection to parallel worker" in str(e), "a tuning whose worker is terminated fails")
    c.wait_for("SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'parallel worker'")
    tap.same(c.value("SELECT count(*) FROM millrace.models WHERE name = 'slow'"), "0", "and leaves nothing")


def test_challenges_at_once(c):
    """Of challengers that come at once each meets the champion that the one before it left."""
    for depth in (1, 2, 4, 8):
        c.psql(f"SELECT millrace.train_model('race', 'random_forest', 'SELECT x, y, side FROM points WHERE id <= 2000', 'side', '{{\"max_depth\": {depth}, \"n_estimators\": 10}}')")
    c.psql("SELECT millrace.promote_model('race', 1)")
    judge = "SELECT x, y, side FROM points WHERE id > 2000"
    answers = {}

    def challenge(version):
        answers[version] = json.loads(c.value(f"SELECT millrace.challenge_model('race', {version}, '{judge}', 'side')"))
    threads = [threading.Thread(target=challenge, args=(v,)) for v in (4, 2, 3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    rows = c.psql("SELECT champion, challenger, promoted FROM millrace.challenges WHERE name = 'race' ORDER BY id")
    live = "1"
    chain = True
    for champion, challenger, promoted in rows:
        chain &= champion == live
        live = challenger if promoted == "t" else live
    tap.ok(chain and len(rows) == 3, f"each met the champion of its moment: {rows}")
    tap.same(c.value("SELECT version FROM millrace.model_aliases WHERE name = 'race'"), live, "the last winner is the champion")
    history = c.psql("SELECT version, reason FROM millrace.model_history WHERE name = 'race' AND reason LIKE 'challenge%' ORDER BY lower(live)")
    tap.same([v for v, _ in history], [b for _, b, p in rows if p == "t"], "and the history has all winners with their reasons")
    back = c.value("SELECT millrace.rollback_model('race', reason => 'too slow')")
    tap.same(back, rows[-1][0] if rows[-1][2] == "t" else c.value("SELECT version FROM millrace.model_aliases WHERE name = 'race'"),
             "rollback is one statement")


def test_history_at_random(c):
    """model_at() and model_history against a list kept by hand, for many times."""
    import random
    random.seed(7)
    c.psql("SELECT millrace.import_model('past', millrace.model_bytes('race:1'), '{\"labels\": [\"a\", \"b\", \"c\"]}') FROM generate_series(1, 5)")
    log = []
    for _ in range(12):
        versions = [random.randint(1, 5) for _ in range(random.choice((1, 1, 3)))]
        before = c.value("SELECT clock_timestamp()")
        c.psql("BEGIN;" + "".join(f"SELECT millrace.promote_model('past', {v});" for v in versions) + random.choice(("COMMIT", "COMMIT", "ROLLBACK")))
        log.append((before, c.value("SELECT version FROM millrace.model_aliases WHERE name = 'past'"), c.value("SELECT clock_timestamp()")))
    wrong = []
    for _, version, after in log:
        at = c.psql(f"""SELECT millrace.model_at('past', '{after}', 'champion'),
            (SELECT version FROM millrace.model_history WHERE name = 'past' AND alias = 'champion' AND live @> '{after}'::timestamptz)""")[0]
        if at != (version, version):
            wrong.append((at, version))
    tap.same(wrong, [], "what was live is known for every time")


def test_dump(c):
    """Tunings, trials and challenges survive a dump; numbers go on."""
    tables = "SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM millrace.{} t"
    names = ("tunings", "trials", "challenges", "alias_history")
    before = [c.value(tables.format(n)) for n in names]
    dump = TMP / "dump"
    c.program("pg_dump", "-Fc", "-f", dump, "postgres")
    c.psql("CREATE DATABASE restored")
    c.program("pg_restore", "-j", "2", "-d", "restored", dump)
    tap.same([c.value(tables.format(n), db="restored") for n in names], before, "a dump restores what was tuned and decided")
    last = int(c.value("SELECT max(id) FROM millrace.tunings", db="restored"))
    t = tune_in(c, "restored")
    tap.ok(t > last, f"tuning {t} comes after {last}")
    tap.same(c.value("SELECT millrace.model_at('past', now())", db="restored"), c.value("SELECT millrace.model_at('past', now())"), "and the history says the same")


def tune_in(c, db):
    c.psql(f"SELECT millrace.tune_model('alone', 'random_forest', '{QUERY}', 'side', '{{\"n_estimators\": 2}}', '{{\"cv\": 2}}')", db=db)
    return int(c.value("SELECT max(id) FROM millrace.tunings", db=db))


def test_against_scikit(c):
    """A metric of a fold is scikit-learn's number for the same predictions."""
    try:
        import numpy as np
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import accuracy_score, f1_score, log_loss, roc_auc_score
    except ImportError as e:
        tap.note(f"not compared with scikit-learn: {e}")
        return
    rows = np.array(c.psql("SELECT x, y, side, id FROM points ORDER BY id"))
    x, y = rows[:, :2].astype(np.float32), rows[:, 2]
    # folds by time: the last fifth tests what was learnt before it
    train, test = slice(0, 3200), slice(3200, 4000)
    m = LogisticRegression(max_iter=1000, tol=1e-8).fit(x[train], y[train])
    p = m.predict_proba(x[test])
    theirs = {"accuracy": accuracy_score(y[test], m.predict(x[test])), "f1_macro": f1_score(y[test], m.predict(x[test]), average="macro"),
              "log_loss": log_loss(y[test], p), "roc_auc": roc_auc_score(y[test], p, multi_class="ovr")}
    for metric, value in theirs.items():
        c.psql(f"""SELECT millrace.tune_model('lr', 'logistic_regression', 'SELECT x, y, side, id FROM points', 'side',
            '{{"max_iter": 1000, "tol": 1e-8}}', '{{"holdout": 0.2, "order": "id", "metric": "{metric}"}}')""")
        ours = float(c.value("SELECT best_score FROM millrace.tunings ORDER BY id DESC LIMIT 1"))
        tap.ok(abs(ours - value) < 0.002, f"{metric} {ours:.5f}, scikit-learn's {value:.5f}")


def main():
    conf = {"max_worker_processes": 8, "max_parallel_workers": 6, "jit": "off"}
    with Cluster(find_pg_config(), TMP / "cluster", conf=conf) as c:
        for db in ("postgres", "no_workers"):
            if db != "postgres":
                c.psql(f"CREATE DATABASE {db}; ALTER DATABASE {db} SET max_parallel_workers = 0")
            c.psql("CREATE EXTENSION millrace;" + ROWS, db=db)
        test_workers(c)
        test_visible(c)
        test_worker_dies(c)
        test_challenges_at_once(c)
        test_history_at_random(c)
        test_against_scikit(c)
        test_dump(c)
        bad = [line for line in c.logs().splitlines() if "terminated by signal" in line or "PANIC" in line]
        tap.same(bad, [], "no process died")
    tap.done()


main()
