#!/usr/bin/env python3
"""Sketches, figures and monitors of drift on a real server, against scipy.  Prints TAP.

Figures are compared exactly while the sketch holds all values, and within its error beyond.  Then what a
monitor promises: quiet weeks stay quiet (52 weeks x 20 columns, several seeds), a shift of 0.2 standard
deviations is seen, 35 rows raise nothing; a run reads new rows only, once more changes nothing, missed
weeks give what weekly runs give; two sessions, a cancel, a dump.
"""
# timeout: 900
import os
import pathlib
import sys
import threading

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, find_pg_config, relocate

try:
    import numpy as np
    import psycopg
    import scipy.stats as stats
    from scipy.spatial.distance import jensenshannon
except ImportError as e:
    tap.skip_all(str(e))

TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_drift")).resolve()
MONDAY = "2026-01-05 00:00+00"


def load(db, table, columns, types, extra=""):
    """A table of numpy columns; NaN stays NaN, None becomes NULL."""
    names = list(columns)
    db.execute(f"DROP TABLE IF EXISTS {table}")
    db.execute(f"CREATE TABLE {table} ({', '.join(f'{n} {t}' for n, t in zip(names, types))}{extra})")
    with db.cursor().copy(f"COPY {table} ({', '.join(names)}) FROM STDIN") as copy:
        for row in zip(*(c.tolist() if isinstance(c, np.ndarray) else c for c in columns.values())):
            copy.write_row(row)


def one(db, sql):
    return db.execute(sql).fetchone()


# ---- figures against scipy

def bins_of(x, edges):
    return np.bincount(np.searchsorted(edges, x, side="left"), minlength=len(edges) + 1)


def expected(r, c):
    """scipy's and numpy's figures of two samples of numbers without ties at the deciles."""
    edges = np.quantile(r, np.arange(1, 10) / 10, method="inverted_cdf")
    a, b = bins_of(r, edges), bins_of(c, edges)
    p, q = a / a.sum(), b / b.sum()
    q1 = np.maximum(b, .5) / b.sum()
    u = stats.mannwhitneyu(c, r, use_continuity=False, method="asymptotic")
    k = stats.ks_2samp(r, c, method="asymp")
    return {"psi": ((q1 - p) * np.log(q1 / p)).sum(), "jensen_shannon": jensenshannon(p, q, base=2),
            "ks": k.statistic, "ks_p": k.pvalue, "shift": np.sqrt(2) * stats.norm.ppf(u.statistic / len(r) / len(c)),
            "shift_p": u.pvalue, "chi2": stats.chi2_contingency([a, b], correction=False)[0],
            "chi2_p": stats.chi2_contingency([a, b], correction=False)[1],
            "mean_shift": (c.mean() - r.mean()) / r.std(ddof=1), "sd_ratio": c.std(ddof=1) / r.std(ddof=1)}


def figures(db, table="f"):
    cur = db.execute(f"""SELECT (millrace.drift_figures(millrace.sketch_agg(x) FILTER (WHERE NOT side),
        millrace.sketch_agg(x) FILTER (WHERE side))).* FROM {table}""")
    return dict(zip([d.name for d in cur.description], cur.fetchone()))


def load_sides(db, r, c, type_="double precision"):
    sides = np.r_[np.zeros(len(r), bool), np.ones(len(c), bool)]
    values = np.r_[r, c] if isinstance(r, np.ndarray) else list(r) + list(c)
    load(db, "f", {"x": values, "side": sides}, [type_, "boolean"])


def test_small(db, rng):
    for name, r, c in (("normal", rng.normal(size=1000), rng.normal(.2, 1.1, 400)),
                       ("log-normal", rng.lognormal(size=900), rng.lognormal(.1, 1, 1000)),
                       ("uniform against normal", rng.uniform(-2, 2, 500), rng.normal(size=300))):
        load_sides(db, r, c)
        got, want = figures(db), expected(r, c)
        worst = max(abs(got[k] - want[k]) / max(abs(want[k]), 1e-3) for k in want if k != "ks_p")
        tap.ok(worst < 1e-9, f"{name}: figures are scipy's (largest difference {worst:.1e})")
        tap.ok(abs(got["ks_p"] - want["ks_p"]) < .01, f"{name}: p of KS {got['ks_p']:.4g}, scipy {want['ks_p']:.4g}")


def test_large(db, rng):
    r, c = rng.normal(size=300000), rng.normal(.1, 1.05, 200000)
    load_sides(db, r, c)
    got, want = figures(db), expected(r, c)
    tap.note({k: (round(got[k], 5), round(float(want[k]), 5)) for k in want})
    tap.ok(abs(got["ks"] - want["ks"]) < .006 and abs(got["psi"] - want["psi"]) < .01 and
           abs(got["jensen_shannon"] - want["jensen_shannon"]) < .02, "500,000 rows: KS, PSI, Jensen-Shannon within the sketches' error")
    tap.ok(abs(got["shift"] - want["shift"]) < .01 and abs(got["mean_shift"] - want["mean_shift"]) < 1e-9 and
           abs(got["sd_ratio"] - want["sd_ratio"]) < 1e-9, "shift by ranks within it, moments exact")
    tap.ok(got["ks_p"] < 1e-9 and got["shift_p"] < 1e-9, "both tests see a tenth of a standard deviation")
    row = one(db, """SELECT max(abs((SELECT avg((x <= millrace.quantile(s, q))::int) FROM f WHERE NOT side) - q))::float8,
        max((millrace.describe(s)).rank_error) FROM (SELECT millrace.sketch_agg(x) AS s FROM f WHERE NOT side) k,
        unnest(ARRAY[0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99]) q""")
    tap.ok(row[0] <= 3 * row[1] < .01, f"quantiles: rank error {row[0]:.5f}, standard error {row[1]:.5f}")


def test_categories(db, rng):
    r = rng.choice(list("abcde"), 2000, p=[.4, .3, .15, .1, .05]).tolist()
    c = rng.choice(list("abcde"), 700, p=[.35, .3, .2, .1, .05]).tolist()
    load_sides(db, r, c, "text")
    got = figures(db)
    table = np.array([[s.count(k) for k in "abcde"] for s in (r, c)])
    chi2, p, df, _ = stats.chi2_contingency(table, correction=False)
    shares = table / table.sum(1, keepdims=True)
    tap.ok(abs(got["chi2"] - chi2) < 1e-9 and abs(got["chi2_p"] - p) < 1e-9 and got["chi2_df"] == df, "chi-squared of categories is scipy's")
    tap.ok(abs(got["jensen_shannon"] - jensenshannon(*shares, base=2)) < 1e-9 and
           abs(got["psi"] - ((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum()) < 1e-9, "so is Jensen-Shannon; PSI is numpy's")
    r, c = [None] * 40 + ["a"] * 1000, [None] * 30 + ["a"] * 300
    load_sides(db, r, c, "text")
    p = stats.chi2_contingency([[40, 1000], [30, 300]], correction=False)[1]
    tap.ok(abs(figures(db)["missing_p"] - p) < 1e-9, "missing: two proportions")
    # Names of which many come once: new ones are to be expected.
    r, c = (["u%d" % i for i in rng.zipf(1.6, n)] for n in (4000, 500))
    load_sides(db, r, c, "text")
    got = figures(db)
    tap.ok(got["new_share"] > .02 and got["new_p"] > .01 and got["chi2_p"] > 1e-4,
           f"many names: {got['new_share']:.3f} new ones are no news (p {got['new_p']:.2g}, chi-squared {got['chi2_p']:.2g})")


# ---- monitors

def table_of_weeks(db, rng, weeks, rows, shift=None):
    """20 columns of all sorts, time ascending; shift: (week, columns that rise by 0.2 standard deviations from then on)."""
    n = weeks * rows
    cols = {"id": np.arange(n), "at": None}
    for i in range(8):
        cols[f"normal{i}"] = rng.normal(i, i + 1, n)
    cols["lognormal"] = rng.lognormal(0, 1, n)
    cols["heavy"] = rng.standard_t(2.5, n)
    cols["exponential"] = rng.exponential(3, n)
    cols["uniform"] = rng.uniform(0, 1, n)
    cols["poisson"] = rng.poisson(3, n)
    cols["binomial"] = rng.binomial(1, .1, n)
    cols["holes"] = np.where(rng.uniform(size=n) < .3, np.nan, rng.normal(size=n))
    cols["constant"] = np.full(n, 7.0)
    cols["flag"] = rng.uniform(size=n) < .4
    cols["kind"] = rng.choice(["a", "b", "c", "d", "e"], n, p=[.5, .3, .1, .08, .02])
    cols["word"] = np.char.add("w", rng.zipf(1.8, n).astype(str))
    cols["rare"] = np.where(rng.uniform(size=n) < .002, "odd", "usual")
    if shift:
        for name in shift[1]:
            late = np.arange(n) >= shift[0] * rows
            cols[name] = cols[name] + late * .2 * cols[name].std()
    del cols["at"]
    types = ["bigint"] + [{"f": "float8", "i": "int", "b": "boolean", "U": "text"}[c.dtype.kind] for c in list(cols.values())[1:]]
    load(db, "weeks", cols, types)
    db.execute(f"""ALTER TABLE weeks ADD COLUMN at timestamptz;
        UPDATE weeks SET at = timestamptz '{MONDAY}' + id * interval '7 days' / {rows};
        CREATE INDEX ON weeks (at); ANALYZE weeks""")


def alarms(db, monitor):
    return db.execute("SELECT window_no, column_name, reason FROM millrace.drift_alarms WHERE monitor = %s ORDER BY 1, 2",
                      [monitor]).fetchall()


def test_quiet(db):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        table_of_weeks(db, rng, 52, 400)
        for name, reference in (("rolling", '{"windows": 4}'), ("fixed", f'{{"from": "{MONDAY}", "to": "2026-02-16 00:00+00"}}')):
            db.execute("SELECT millrace.create_monitor(%s, 'weeks', %s)",
                       [name, f'{{"time": "at", "key": "id", "reference": {reference}}}'])
            windows = one(db, f"SELECT millrace.run_monitor('{name}', '2028-01-01')")[0]
            got = alarms(db, name)
            tap.ok(windows >= 46 and one(db, f"SELECT count(DISTINCT column_name) FROM millrace.drift WHERE monitor = '{name}'")[0] == 20 and
                   len(got) <= 1, f"seed {seed}, {name} reference: {len(got)} alarms in 52 quiet weeks of 20 columns {got}")
            db.execute(f"SELECT millrace.drop_monitor('{name}')")


def test_planted(db):
    for seed, rows, least in ((100, 1000, .75), (101, 1000, .75), (102, 2000, 1)):
        table_of_weeks(db, np.random.default_rng(seed), 14, rows, (8, ["normal3", "uniform"]))
        db.execute("SELECT millrace.create_monitor('planted', 'weeks', %s)",
                   [f'{{"time": "at", "key": "id", "reference": {{"from": "{MONDAY}", "to": "2026-02-16 00:00+00"}}}}'])
        one(db, "SELECT millrace.run_monitor('planted', '2026-04-13')")
        got = alarms(db, "planted")
        # The reference is a period of six weeks; window 0 comes after it.
        first = {name: [w for w, n, _ in got if n == name] for name in ("normal3", "uniform")}
        wrong = [a for a in got if a[1] not in first or a[0] < 2]
        tap.ok(all(min(v, default=99) <= 3 for v in first.values()) and sum(map(len, first.values())) >= least * 12 and wrong == [],
               f"0.2 standard deviations, {rows} rows a week, 20 columns: {sum(map(len, first.values()))} of 12 alarms, {len(wrong)} others")
        db.execute("SELECT millrace.drop_monitor('planted')")


def test_small_windows(db):
    rng = np.random.default_rng(7)
    table_of_weeks(db, rng, 20, 35, (5, ["normal0"]))
    db.execute("UPDATE weeks SET normal1 = normal1 + 1000, kind = 'z' WHERE id > 400")
    db.execute("""SELECT millrace.create_monitor('small', 'weeks', '{"time": "at", "key": "id"}')""")
    one(db, "SELECT millrace.run_monitor('small', '2026-06-01')")
    tap.ok(alarms(db, "small") == [] and one(db, "SELECT count(*) FROM millrace.drift WHERE monitor = 'small' AND reason LIKE '%fewer than%'")[0] > 300,
           "35 rows a window: no alarm, and the reason is said")
    db.execute("SELECT millrace.drop_monitor('small')")


def results(db, monitor):
    return db.execute("""SELECT to_jsonb(d) - 'monitor' - 'compared_at' FROM millrace.drift d WHERE monitor = %s
        ORDER BY window_no, column_name""", [monitor]).fetchall()


def test_incremental(c, db):
    rng = np.random.default_rng(1)
    table_of_weeks(db, rng, 12, 1000, (8, ["normal0"]))
    options = '{"time": "at", "key": "id"}'
    for name in ("weekly", "late"):
        db.execute("SELECT millrace.create_monitor(%s, 'weeks', %s)", [name, options])

    def reads():
        return one(db, "SELECT coalesce(idx_tup_fetch, 0) + seq_tup_read FROM pg_stat_all_tables WHERE relname = 'weeks'")[0]

    # What this session read while it made the table is to be counted before.
    db.execute("SELECT pg_stat_force_next_flush()")
    db.execute("SELECT 1")
    cost, done = [], []
    for week in range(1, 13):
        # A session of its own: its statistics are there when it has ended.
        before = reads()
        with psycopg.connect(c.dsn(), autocommit=True) as other:
            other.execute("SET enable_seqscan = off; SET enable_bitmapscan = off")
            done.append(one(other, f"SELECT millrace.run_monitor('weekly', timestamptz '{MONDAY}' + interval '{week} weeks')")[0])
            other.execute("SELECT pg_stat_force_next_flush()")
            other.execute("SELECT 1")
        db.execute("SELECT pg_stat_clear_snapshot()")
        cost.append(reads() - before)
    tap.ok(done == [1] * 12, "one window a week")
    tap.ok(max(cost) <= 1002 and min(cost) >= 1000, f"a run reads the rows of its week and no others: {cost}")
    one(db, f"SELECT millrace.run_monitor('late', timestamptz '{MONDAY}' + interval '12 weeks')")
    tap.ok(results(db, "weekly") == results(db, "late") and len(results(db, "late")) == 240, "twelve missed weeks give what weekly runs gave")
    tap.ok([a[:2] for a in alarms(db, "late")] == [(8, "normal0")], f"the alarm is in week 8: {alarms(db, 'late')}")
    before = results(db, "weekly")
    again = one(db, f"SELECT millrace.run_monitor('weekly', timestamptz '{MONDAY}' + interval '12 weeks')")[0]
    tap.ok(again == 0 and results(db, "weekly") == before, "once more changes nothing")


def test_sessions(c, db):
    """Two sessions at once: each window once."""
    counts = []
    db.execute("""SELECT millrace.create_monitor('both', 'SELECT * FROM weeks', '{"time": "at", "key": "id"}')""")

    def run():
        with psycopg.connect(c.dsn(), autocommit=True) as other:
            counts.append(one(other, "SELECT millrace.run_monitor('both', '2026-03-30')")[0])

    with psycopg.connect(c.dsn()) as first:
        counts.append(one(first, "SELECT millrace.run_monitor('both', '2026-03-02')")[0])
        threads = [threading.Thread(target=run) for _ in range(3)]
        for t in threads:
            t.start()
        c.wait_for("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'", "3")
        first.commit()
        for t in threads:
            t.join()
    tap.ok(sorted(counts) == [0, 0, 4, 8] and results(db, "both") == results(db, "late"), f"four sessions at once share the windows: {counts}")


def test_cancel(c, db):
    db.execute("CREATE OR REPLACE FUNCTION slow(float8) RETURNS float8 LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM pg_sleep(0.002); RETURN $1; END'")
    db.execute("""SELECT millrace.create_monitor('slow', 'SELECT at, slow(normal0) AS x FROM weeks', '{"time": "at"}')""")
    with psycopg.connect(c.dsn(), autocommit=True) as other:
        other.execute("SET statement_timeout = '500ms'")
        try:
            other.execute("SELECT millrace.run_monitor('slow', '2026-06-01')")
            tap.ok(False, "a run is cancelled")
        except psycopg.errors.QueryCanceled:
            tap.ok(True, "a run is cancelled")
    left = one(db, """SELECT windows, (SELECT count(*) FROM millrace.drift WHERE monitor = 'slow'),
        (SELECT count(*) FROM millrace.monitor_sketches WHERE monitor = 'slow') FROM millrace.monitors WHERE name = 'slow'""")
    tap.ok(left == (0, 0, 0), "and leaves nothing")
    db.execute("SELECT millrace.drop_monitor('slow')")


def test_dump(c, db):
    """What is restored goes on where it was."""
    db.execute("SELECT millrace.drop_monitor('both'); SELECT millrace.drop_monitor('late')")
    c.program("pg_dump", "-Fc", "-f", str(TMP / "dump"), "postgres")
    db.execute("CREATE DATABASE restored")
    c.program("pg_restore", "-d", "restored", str(TMP / "dump"))
    more = f"""INSERT INTO weeks SELECT (w).* FROM (SELECT jsonb_populate_record(w, jsonb_build_object('id', id + 100000,
        'at', at + interval '12 weeks')) AS w FROM weeks w) q; SELECT millrace.run_monitor('weekly', timestamptz '{MONDAY}' + interval '14 weeks')"""
    with psycopg.connect(c.dsn("restored"), autocommit=True) as other:
        tap.ok(results(other, "weekly") == results(db, "weekly"), "a dump has the results")
        for session in (db, other):
            for statement in more.split(";"):
                session.execute(statement)
        tap.ok(results(other, "weekly") == results(db, "weekly") and len(results(db, "weekly")) == 280, "and the restored monitor goes on alike")


def test_bad_data(db):
    """NaN, infinity, all NULL, a column that stops coming, a week without rows."""
    n = 3000
    rng = np.random.default_rng(3)
    week = np.arange(n) // 500
    cols = {"id": np.arange(n), "nan": np.where(rng.uniform(size=n) < .5, np.nan, rng.normal(size=n)),
            "inf": np.where(np.arange(n) % 100 == 0, np.inf, rng.normal(size=n)),
            "empty": [None] * n, "stops": [None if w == 5 else float(i % 7) for i, w in enumerate(week)],
            "huge": rng.normal(size=n) * 1e300, "bool_nulls": [None if i % 3 else True for i in range(n)]}
    load(db, "bad", cols, ["bigint", "float8", "float8", "float8", "float8", "float8", "boolean"])
    db.execute(f"ALTER TABLE bad ADD COLUMN at timestamptz; UPDATE bad SET at = timestamptz '{MONDAY}' + id * interval '7 days' / 500")
    db.execute("DELETE FROM bad WHERE id BETWEEN 1500 AND 1999")
    db.execute("""SELECT millrace.create_monitor('bad', 'bad', '{"time": "at", "key": "id"}')""")
    done = one(db, "SELECT millrace.run_monitor('bad', '2026-02-16')")[0]
    got = alarms(db, "bad")
    tap.ok(done == 6 and [(a[0], a[1]) for a in got] == [(5, "stops")] and "missing: 100.0 %" in got[0][2],
           f"NaN, infinity and NULL are borne; a column that stops coming is an alarm: {got}")
    rows = db.execute("SELECT column_name, missing, mean_shift, sd_ratio FROM millrace.drift WHERE monitor = 'bad' AND window_no = 4").fetchall()
    figures_ = {r[0]: r[1:] for r in rows}
    tap.ok(.4 < figures_["nan"][0] < .6 and figures_["empty"] == (1, None, None) and figures_["inf"][0] == 0 and figures_["inf"][1] is not None,
           f"NaN is missing, an infinity is not, nothing has no mean: {figures_}")
    reason = one(db, "SELECT DISTINCT reason FROM millrace.drift WHERE monitor = 'bad' AND window_no = 3")
    tap.ok(reason == ("no rows",), "a week without rows says so")
    db.execute("""SELECT millrace.create_monitor('arrays', 'SELECT at, ARRAY[nan, inf]::real[] AS v FROM bad', '{"time": "at"}')""")
    db.execute("CREATE OR REPLACE VIEW odd AS SELECT at, ARRAY[nan, inf]::real[] AS v FROM bad")
    db.execute("""SELECT millrace.create_monitor('odd', 'odd', '{"time": "at"}')""")
    db.execute("CREATE OR REPLACE VIEW odd AS SELECT at, CASE WHEN id > 100 THEN ARRAY[nan] ELSE ARRAY[nan, inf] END::real[] AS v FROM bad")
    try:
        db.execute("SELECT millrace.run_monitor('odd', '2026-02-16')")
        tap.ok(False, "arrays of another length are refused")
    except psycopg.errors.InvalidParameterValue as e:
        tap.ok('holds an array of 1 elements' in str(e), "arrays of another length are refused")


def main():
    pg = relocate(TMP / "pg", find_pg_config())
    with Cluster(pg, TMP / "c", conf={"fsync": "off", "timezone": "UTC"}) as c:
        c.psql("CREATE EXTENSION millrace")
        with psycopg.connect(c.dsn(), autocommit=True) as db:
            rng = np.random.default_rng(0)
            test_small(db, rng)
            test_large(db, rng)
            test_categories(db, rng)
            test_quiet(db)
            test_planted(db)
            test_small_windows(db)
            test_incremental(c, db)
            test_sessions(c, db)
            test_cancel(c, db)
            test_dump(c, db)
            test_bad_data(db)
    tap.done()


if __name__ == "__main__":
    main()
