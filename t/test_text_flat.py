#!/usr/bin/env python3
"""The index millrace_flat on a real server: writers beside searches, VACUUM, kill -9, standby, dump, instruction sets.  Prints TAP.

The oracle is the same query without the index, in the same snapshot.
"""
# timeout: 600
import os
import pathlib
import random
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, SqlError, find_pg_config, relocate

TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_text_flat")).resolve()
DIM = 96
SETUP = f"""
CREATE EXTENSION millrace;
-- {DIM} numbers around one of 50 centres, different for each seed
CREATE FUNCTION vec(seed int) RETURNS real[] LANGUAGE sql IMMUTABLE AS $$
    SELECT array_agg((pg_catalog.hashint4(seed * 1009 + j) / 2147483648.0 + pg_catalog.hashint4(abs(seed) % 50 * 7919 + j) / 1073741824.0)::real
        ORDER BY j) FROM pg_catalog.generate_series(1, {DIM}) j $$;
CREATE TABLE v (id int, kind int, e real[]);
INSERT INTO v SELECT i, i % 1000, vec(i) FROM generate_series(1, 20000) i;
-- few enough for the table to be searched by signs first
ALTER DATABASE postgres SET millrace.flat_candidates = 400;
CREATE INDEX v_e ON v USING millrace_flat (e);
CREATE INDEX v_l2 ON v USING millrace_flat (e millrace.flat_l2_ops);
CREATE INDEX v_ip ON v USING millrace_flat (e millrace.flat_inner_ops);
"""
INDEXES = {"v_e": "<=>", "v_l2": "<->", "v_ip": "<#>"}


def answers(run, seed, k=10, op="<=>", where="true", table="v"):
    """Distances of the k nearest by the index, and in the same snapshot without it."""
    query = (f"SELECT string_agg(d::text, ' ') FROM (SELECT e OPERATOR(millrace.{op}) vec({seed}) AS d FROM {table} WHERE {where} "
             f"ORDER BY e OPERATOR(millrace.{op}) vec({seed}) LIMIT {k}) s")
    text = run("BEGIN ISOLATION LEVEL REPEATABLE READ; "
               f"SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; {query}; "
               f"SET LOCAL enable_seqscan = on; SET LOCAL enable_sort = on; SET LOCAL enable_indexscan = off; {query}; COMMIT")
    return [[float(x) for x in (line or "").split()] for line in text]


def found(by_index, exact):
    """How many of the exact answers the index has, by distance, so that ties count."""
    if not exact:
        return 1.0 if not by_index else 0.0
    return sum(d <= exact[-1] + 1e-9 for d in by_index) / len(exact)


def lines(session):
    """run(sql) of a session whose empty results are None."""
    def run(sql):
        return [x or None for x in session.run(sql).split("\n")]
    return run


def rows(c, db="postgres"):
    def run(sql):
        return [r[0] for r in c.psql(sql, db=db)]
    return run


def sound(c, name, db="postgres"):
    """flat_check() of every index finds nothing wrong."""
    for index in INDEXES:
        f = dict(zip("vectors room rows missing doubled wrong damaged".split(),
                     map(int, c.psql(f"SELECT * FROM millrace.flat_check('{index}')", db=db)[0])))
        tap.ok(not any(f[x] for x in ("missing", "doubled", "wrong", "damaged")), f"{name}: {index} is sound {f}")


def recalls(c, name, least=0.99, db="postgres", seeds=range(-1, -21, -1)):
    for index, op in INDEXES.items():
        r = [found(*answers(rows(c, db), s, op=op)) for s in seeds]
        tap.ok(sum(r) / len(r) >= least, f"{name}: {op} finds {sum(r) / len(r):.3f} of the nearest")


def test_still(c):
    recalls(c, "a table at rest")
    # one row of 20, one of 1,000, one of all
    for where in ("kind = 7", "id = 12345", "kind = 3 AND id > 15000"):
        by_index, exact = answers(rows(c), -5, k=15, where=where)
        tap.same(by_index, exact, f"a filter starves no LIMIT: {where}")
    by_index, exact = answers(rows(c), -6, k=20000)
    tap.same(sorted(by_index), exact, "all rows come, each once")
    late = sum(a > b for a, b in zip(by_index, by_index[1:]))
    tap.ok(late <= 20, f"and nearly all in order ({late} late)")
    text = rows(c)("SET enable_seqscan = off; SET enable_sort = off; SET millrace.flat_candidates = 20000; SELECT e OPERATOR(millrace.<=>) vec(-7) "
                   "FROM v ORDER BY e OPERATOR(millrace.<=>) vec(-7)")
    tap.ok([float(x) for x in text] == sorted(float(x) for x in text), "with as many candidates as rows, all in order")


def test_instruction_sets(c):
    """Codes and answers are the same bits on every instruction set."""
    query = ("SET enable_seqscan = off; SET millrace.isa = '{}'; SELECT string_agg(id::text, ' ') FROM (SELECT id FROM v "
             "ORDER BY e OPERATOR(millrace.<=>) vec(-3) LIMIT 50) s")
    got = {}
    for isa in ("portable", "avx2", "avx512"):
        try:
            c.psql(f"SET millrace.isa = '{isa}'")
        except SqlError:
            tap.note(f"this CPU has no {isa}")
            continue
        got[isa] = c.value(query.format(isa))
        c.psql(f"SET millrace.isa = '{isa}'; REINDEX INDEX v_e")
        f = c.psql("SET millrace.isa = 'portable'; SELECT wrong, missing FROM millrace.flat_check('v_e')")
        tap.same(f, [("0", "0")], f"codes made by {isa} are those of portable")
    tap.ok(len(set(got.values())) == 1, f"the same answers from {', '.join(got)}")


class Writer(threading.Thread):
    """Inserts, updates, deletes, rolls back, until told to stop."""

    def __init__(self, c, number):
        super().__init__()
        self.s, self.random, self.stop, self.n, self.number = c.session(), random.Random(number), False, 0, number

    def run(self):
        try:
            while not self.stop:
                first = 100000 * self.number + self.n * 10
                id = self.random.randrange(20000)
                self.s.run(self.random.choice([
                    f"INSERT INTO v SELECT i, i % 1000, vec(i) FROM generate_series({first}, {first + 9}) i",
                    f"UPDATE v SET e = vec(id + {first}) WHERE id BETWEEN {id} AND {id + 5}",
                    f"UPDATE v SET kind = kind + 1 WHERE id BETWEEN {id} AND {id + 5}",
                    f"DELETE FROM v WHERE id BETWEEN {id} AND {id + 5}",
                    f"BEGIN; INSERT INTO v SELECT i, i % 1000, vec(i) FROM generate_series({first}, {first + 9}) i; "
                    f"DELETE FROM v WHERE id = {id}; ROLLBACK",
                    f"BEGIN; SAVEPOINT a; UPDATE v SET e = vec(-id) WHERE id BETWEEN {id} AND {id + 5}; ROLLBACK TO a; COMMIT"]))
                self.n += 1
        except Exception as e:          # the main thread reports it
            self.error = e

    error = None


def test_concurrency(c, seconds):
    writers = [Writer(c, i) for i in range(1, 4)]
    for w in writers:
        w.start()
    reader, vacuum = c.session(), c.session()
    run = lines(reader)
    end, r, n_vacuums, complete = time.monotonic() + seconds, [], 0, True
    while time.monotonic() < end:
        for op in INDEXES.values():
            r.append(found(*answers(run, random.randrange(1 << 20), op=op)))
        by_index, exact = answers(run, 5, k=200, where="kind = 11")
        complete = complete and by_index == exact
        vacuum.run("VACUUM v")
        n_vacuums += 1
    for w in writers:
        w.stop = True
    for w in writers:
        w.join()
    tap.ok(all(w.error is None for w in writers), f"writers had no error {[w.error for w in writers if w.error]}")
    tap.ok(sum(r) / len(r) >= 0.99 and complete,
           f"{len(r)} searches beside {sum(w.n for w in writers)} writes and {n_vacuums} VACUUMs find {sum(r) / len(r):.4f}; with a filter all: {complete}")
    sound(c, "after concurrent writers")
    c.psql("DELETE FROM v WHERE id % 2 = 0", timeout=300)
    c.psql("VACUUM v")
    tap.same(c.value("SELECT room > 0 AND vectors = rows FROM millrace.flat_check('v_e')"), "t", "VACUUM leaves live rows alone")
    size = c.value("SELECT pg_relation_size('v_e')")
    c.psql("INSERT INTO v SELECT i, i % 1000, vec(i) FROM generate_series(900000, 904000) i")
    tap.same(c.value("SELECT pg_relation_size('v_e')"), size, "room is used again")
    sound(c, "refilled")


def test_open_cursor(c):
    """A search under way while its rows are deleted, vacuumed and their places taken."""
    s = c.session()
    s.run("BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; "
          "DECLARE q CURSOR FOR SELECT id FROM v WHERE id < 20000 ORDER BY e OPERATOR(millrace.<=>) vec(-9); FETCH 5 FROM q")
    expected = int(c.value("SELECT count(*) FROM v WHERE id < 20000"))
    c.psql("BEGIN; DELETE FROM v WHERE id < 20000 AND id % 3 = 0; UPDATE v SET e = vec(id + 1500000) WHERE id < 20000 AND id % 3 = 1; COMMIT; VACUUM v; "
           "INSERT INTO v SELECT i, i % 1000, vec(i) FROM generate_series(910000, 914000) i")
    got = s.run("FETCH ALL FROM q").split("\n")
    tap.same((len(got) + 5, len(set(got)) + 5), (expected, expected), "a cursor sees the rows of its snapshot")
    s.run("COMMIT")
    sound(c, "after the cursor")


def test_kill(c, rounds):
    for i in range(rounds):
        writers = [Writer(c, 10 + 3 * i + j) for j in range(3)]
        for w in writers:
            w.start()
        time.sleep(1.5)
        if i % 2:
            c.psql("CHECKPOINT")
        pid = c.postmaster_pid()
        os.kill(pid, signal.SIGKILL)
        for w in writers:
            w.join()
        time.sleep(0.5)
        while True:                     # orphaned backends hold the shared memory a moment longer
            try:
                c.start()
                break
            except RuntimeError:
                time.sleep(0.5)
        sound(c, f"postmaster killed, {i + 1}")
    recalls(c, "after recovery")
    # an index whose first page was being made: empty table, first rows, killed
    c.psql("CREATE TABLE young (id int, e real[]); CREATE INDEX ON young USING millrace_flat (e); CHECKPOINT; "
           "INSERT INTO young SELECT i, vec(i) FROM generate_series(1, 300) i")
    os.kill(c.postmaster_pid(), signal.SIGKILL)
    time.sleep(1)
    while True:
        try:
            c.start()
            break
        except RuntimeError:
            time.sleep(0.5)
    tap.same(c.psql("SELECT rows, missing, wrong, damaged FROM millrace.flat_check('young_e_idx')"), [("300", "0", "0", "0")],
             "a young index comes back")
    c.psql("INSERT INTO young SELECT i, vec(i) FROM generate_series(301, 900) i")
    tap.same(c.psql("SELECT rows, missing, wrong, damaged FROM millrace.flat_check('young_e_idx')"), [("900", "0", "0", "0")], "and grows")


def test_unlogged(c):
    c.psql("CREATE UNLOGGED TABLE u (id int, e real[]); CREATE INDEX u_e ON u USING millrace_flat (e); INSERT INTO u SELECT i, vec(i) FROM generate_series(1, 500) i")
    c.stop("immediate")
    c.start()
    tap.same(c.psql("SELECT * FROM millrace.flat_check('u_e')"), [("0",) * 7], "an unlogged index is empty after a crash")
    c.psql("INSERT INTO u SELECT i, vec(i) FROM generate_series(1, 500) i")
    tap.same(c.psql("SELECT rows, missing, wrong FROM millrace.flat_check('u_e')"), [("500", "0", "0")], "and takes rows again")


def test_standby(c):
    c.psql("CREATE TABLE few (id int PRIMARY KEY, e real[]); CREATE INDEX few_e ON few USING millrace_flat (e)")
    other = c.standby(TMP / "standby", {"hot_standby": "on"})
    other.start()
    try:
        c.psql("INSERT INTO v SELECT i, i % 1000, vec(i) FROM generate_series(950000, 952000) i; DELETE FROM v WHERE id % 5 = 0; VACUUM v; "
               "INSERT INTO v SELECT i, i % 1000, vec(i) FROM generate_series(960000, 963000) i")
        c.psql("CREATE TABLE fresh AS SELECT id, e FROM v WHERE id < 3000; CREATE INDEX fresh_e ON fresh USING millrace_flat (e)")
        c.psql("INSERT INTO few SELECT i, vec(i) FROM generate_series(1, 3) i")
        lsn = c.value("SELECT pg_current_wal_lsn()")
        other.wait_for(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'")
        sound(other, "standby")
        tap.same([answers(rows(other), s, op=op) for s in (-1, -2) for op in INDEXES.values()],
                 [answers(rows(c), s, op=op) for s in (-1, -2) for op in INDEXES.values()], "a standby gives the same answers")
        tap.same(answers(rows(other), -3, table="fresh"), answers(rows(c), -3, table="fresh"), "by an index that was built meanwhile too")
        other.promote()
        other.wait_for("SELECT NOT pg_is_in_recovery()")
        other.psql("INSERT INTO v SELECT i, i % 1000, vec(i) FROM generate_series(970000, 971000) i")
        other.psql("INSERT INTO few SELECT i, vec(i) FROM generate_series(4, 600) i")
        tap.same(other.psql("SELECT rows, missing, wrong, damaged FROM millrace.flat_check('few_e')"), [("600", "0", "0", "0")],
                 "pages that the primary had not used yet are no hindrance when it is promoted")
        sound(other, "promoted")
    finally:
        other.destroy()


def test_dump(c):
    c.program("pg_dump", "-Fc", "-f", "/tmp/mr_flat.dump", "postgres", as_server=True)
    try:
        c.psql("CREATE DATABASE copy TEMPLATE template0")
        c.program("pg_restore", "-d", "copy", "--exit-on-error", "/tmp/mr_flat.dump", as_server=True)
    finally:
        os.unlink("/tmp/mr_flat.dump")
    sound(c, "restored", db="copy")
    recalls(c, "restored", db="copy")


def main():
    pg_config = os.environ.get("PG_CONFIG") or find_pg_config()
    full = bool(os.environ.get("MILLRACE_FULL"))
    with Cluster(relocate(TMP / "pg", pg_config), TMP / "flat", {"autovacuum": "off", "max_wal_senders": 4, "wal_level": "replica", "fsync": "off"}) as c:
        c.psql(SETUP)
        test_still(c)
        test_instruction_sets(c)
        test_concurrency(c, 120 if full else 12)
        test_open_cursor(c)
        test_kill(c, 20 if full else 3)
        test_unlogged(c)
        test_standby(c)
        test_dump(c)
    tap.done()


if __name__ == "__main__":
    main()
