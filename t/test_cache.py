#!/usr/bin/env python3
# timeout: 900
# takes: 60
"""The semantic cache on a real server, with the real MiniLM (docs/cache.md).

  t/test_cache.py [test …]         false_hits, paraphrases, tenants, …; all of them without a name

Questions that mean the same are those of t/data/paraphrases.txt, pairs that do not are made by lib/cachepairs.py.
MILLRACE_FULL=1: 5,000 such pairs instead of 1,000.
"""
import concurrent.futures
import os
import pathlib
import re
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import cachepairs, minilm, tap
from lib.cluster import Cluster, find_pg_config, relocate

try:
    import psycopg
except ImportError as e:
    tap.skip_all(str(e))

HERE = pathlib.Path(__file__).resolve().parent
TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_cache")).resolve()
FULL = bool(os.environ.get("MILLRACE_FULL"))


def connect(c, **how):
    return psycopg.connect(c.dsn(**how), autocommit=True)


def put(s, cache, question, answer="a", **more):
    names = "".join(f", {k} => %s" for k in more)
    return s.execute(f"SELECT millrace.cache_put(%s, %s, to_jsonb(%s::text){names})", (cache, question, answer, *more.values())).fetchone()[0]


def get(s, cache, question, **more):
    """(hit, id, question, answer, similarity, sampled)"""
    names = "".join(f", {k} => %s" for k in more)
    return s.execute(f"SELECT * FROM millrace.cache_get(%s, %s{names})", (cache, question, *more.values())).fetchone()


def hit(s, cache, question, **more):
    return get(s, cache, question, **more)[0]


def stat(s, cache, column):
    return s.execute(f"SELECT {column} FROM millrace.stat_caches WHERE name = %s", (cache,)).fetchone()[0]


def cache(s, name, options="{}"):
    s.execute("SELECT millrace.create_cache(%s, %s)", (name, options))
    return name


def groups():
    blocks = "\n".join(line for line in (HERE / "data/paraphrases.txt").read_text().splitlines() if not line.startswith("#")).split("\n\n")
    return [[q for q in b.splitlines() if q] for b in blocks if b.strip()]


# ---- what is a hit, and what is not

def false_hits(c):
    """Each pair in a scope of its own: only its first question can be returned for its second."""
    s = connect(c)
    cache(s, "pairs", '{"threshold": 0.1}')        # the guard alone decides
    found, wrong = cachepairs.pairs(5000 if FULL else 1000), []
    near = dict.fromkeys(("number", "negation", "name"), 0)
    for i, (kind, a, b) in enumerate(found):
        put(s, "pairs", a, tenant=str(i))
        if hit(s, "pairs", b, tenant=str(i)):
            wrong.append((kind, a, b))
    cache(s, "unguarded", '{"guard": false}')
    for i, (kind, a, b) in enumerate(found[:300]):
        put(s, "unguarded", a, tenant=str(i))
        near[kind] += bool(hit(s, "unguarded", b, tenant=str(i)))
    tap.note("without the guard, of 100 each, hits at the usual threshold: %s" % near)
    tap.same(wrong, [], "%d pairs that differ in a number, a negation or a name: no false hit" % len(found))
    tap.ok(near["number"] > 50 and near["negation"] > 50, "... where most with another number or a negation would be one without the guard")


def paraphrases(c):
    """All questions in one scope, asked in other words: a hit must be the question of the group."""
    s = connect(c)
    cache(s, "asked", '{"sample": 0}')
    all_groups = groups()
    for g in all_groups:
        put(s, "asked", g[0], answer=g[0])
    tap.ok(len(all_groups) >= 120 and sum(len(g) - 1 for g in all_groups) >= 500, "500 paraphrases of 120 questions or more")
    hits, wrong, asked = [0, 0], [], [0, 0]
    for i, g in enumerate(all_groups):
        for q in g[1:]:
            r = get(s, "asked", q)
            asked[i % 2] += 1
            hits[i % 2] += r[2] == g[0]
            if r[0] and r[2] != g[0]:
                wrong.append((q, r[2]))
    tap.note("hits: %.1f %% of those looked at, %.1f %% of those held out" % tuple(100 * hits[k] / asked[k] for k in (0, 1)))
    tap.ok(sum(hits) >= 0.6 * sum(asked), "%d of %d hit: at least 60 %%" % (sum(hits), sum(asked)))
    tap.ok(hits[1] >= 0.6 * asked[1], "... of those held out, too")
    tap.same(wrong, [], "no hit belongs to another question")


def guard(c):
    """Kinds of conflicts by name, and what must be none."""
    s = connect(c)
    def conflict(a, b):
        there, back = (s.execute("SELECT millrace.meaning_conflict(%s, %s)", p).fetchone()[0] for p in ((a, b), (b, a)))
        if (there is None) != (back is None):
            return "not symmetrical: %s, %s" % (there, back)
        return there and there.split(":")[0]
    cases = [
        ("number", "What is 5 + 3?", "What is 6 + 3?"), ("number", "the last three months", "the last four months"), ("number", "is it 1,000?", "is it 10,000?"),
        (None, "What is 15% of 80?", "What is 15 percent of 80?"), (None, "twenty-five dogs", "25 dogs"), (None, "1.5 million people", "1,500,000 people"),
        (None, "one mile in feet", "a mile in feet"), (None, "World War II", "World War 2"), (None, "the 3rd man", "the third man"),
        ("negation", "Can I eat this?", "Can't I eat this?"), ("negation", "with sugar", "without sugar"), ("negation", "Is it edible?", "Is it inedible?"), ("opposite", "Is it legal?", "Is it illegal?"),
        (None, "Why won't it start?", "Why will it not start?"), (None, "I cannot log in", "I can't log in"),
        ("opposite", "How do I increase it?", "How do I decrease it?"), ("opposite", "turn on the light", "turn off the light"),
        ("name", "Who is the CEO of Apple?", "Who is the CEO of Amazon?"), ("word", "who is the ceo of apple", "who is the ceo of amazon"),
        (None, "Who is the CEO of Apple?", "who is apple's ceo"), ("question", "When did Ada Lovelace die?", "Why did Ada Lovelace die?"),
        ("question", "What did Newton discover?", "When did Newton discover?"), ("question", "Can I drink milk?", "Should I drink milk?"),
        ("order", "Does a dog chase a cat?", "Does a cat chase a dog?"), ("direction", "flights from Paris", "flights to Paris"), ("order", "convert PDF to Word", "convert Word to PDF"),
        (None, "How do cats and dogs differ?", "How do dogs and cats differ?"), (None, "In Python, how do I sort a list?", "How do I sort a list in Python?"),
        (None, "HOW DO I RESET MY PASSWORD", "How Do I Reset My Password?"), ("word", "What is your name?", "What is my name?"),
        (None, "", ""), (None, "¿?", "..."), ("word", "Wie alt ist er?", "Wie groß ist er?"), ("number", "Was kosten 3 Äpfel?", "Was kosten 4 Äpfel?"),
        ("too long to be compared", "word " * 300 + "a", "word " * 300 + "b"), (None, "x" * 100000, "x" * 100000),
    ]
    for expected, a, b in cases:
        tap.same(conflict(a, b), expected, "%.40s | %.40s" % (a, b))


# ---- whose, and for how long

def tenants(c):
    s = connect(c)
    cache(s, "shared")
    put(s, "shared", "What is our revenue?", "of a", tenant="a")
    put(s, "shared", "What is our revenue?", "of b", tenant="b")
    tap.same([get(s, "shared", "What is our revenue?", tenant=t)[3] for t in "ab"], ["of a", "of b"], "tenants get their own answers")
    tap.same(hit(s, "shared", "What is our revenue?", tenant="c"), None, "... and a third nothing, exact")
    tap.same(hit(s, "shared", "What's our revenue?", tenant="c"), None, "... nor near")
    tap.same(hit(s, "shared", "What's our revenue?", tenant="a"), "semantic", "near hits live beside tenants")
    tap.same([hit(s, "shared", "What is our revenue?", tenant="a", model="m"), hit(s, "shared", "What is our revenue?", tenant="a", prompt_version="2")],
             [None, None], "another model or prompt version is another scope")
    put(s, "shared", "x y", "1", tenant="ab", model="c")
    tap.same(hit(s, "shared", "x y", tenant="a", model="bc"), None, "names are not run together")

    # more entries than are compared one by one, of many tenants: the index
    s.execute("SELECT millrace.create_cache('crowd', '{\"capacity\": null, \"ttl_s\": null}')")
    put(s, "crowd", "How do I reset my password?", "mine", tenant="1")
    s.execute("""INSERT INTO millrace.cache_entries (cache, scope, generation, key, created_at, dimensions, embedding, question, answer, tenant)
        SELECT e.cache, e.scope, 0, gen_random_uuid(), e.created_at, 384,
               (SELECT array_agg((random() - 0.5)::real) FROM generate_series(1, 384) WHERE i > 0), 'noise ' || i, '"noise"', '1'
          FROM millrace.cache_entries e, generate_series(1, 3000) i WHERE e.question = 'How do I reset my password?' AND e.tenant = '1'""")
    fresh = connect(c)
    tap.same(get(fresh, "crowd", "How can I reset my password?", tenant="1")[:4:3], ("semantic", "mine"), "in a scope of 3,001 the index finds it")
    tap.same(hit(fresh, "crowd", "Which plants grow in the shade?", tenant="1"), None, "... and nothing where nothing is near")
    tap.same(hit(fresh, "crowd", "How can I reset my password?", tenant="2"), None, "... nor for another tenant")


def ttl(c):
    s = connect(c)
    cache(s, "aging", '{"ttl_s": 100}')
    s.execute("SET millrace.task_clock_offset_ms = 0")
    put(s, "aging", "How old is the universe?", "13.8")
    s.execute("SET millrace.task_clock_offset_ms = 99000")
    tap.same([hit(s, "aging", "How old is the universe?"), hit(s, "aging", "what is the age of the universe")], ["exact", "semantic"], "a second before its end")
    s.execute("SET millrace.task_clock_offset_ms = 100001")
    tap.same([hit(s, "aging", "How old is the universe?"), hit(s, "aging", "what is the age of the universe")], [None, None], "hits do not lengthen an entry's life")
    s.execute("SELECT millrace.alter_cache('aging', '{\"ttl_s\": 200}')")
    tap.same(hit(s, "aging", "How old is the universe?"), "exact", "a longer ttl_s holds for what is there")
    s.execute("SET millrace.task_clock_offset_ms = 300000")
    tap.same(s.execute("SELECT millrace.cache_sweep('aging'), millrace.cache_sweep('aging')").fetchone(), (1, 0), "cache_sweep() deletes what has expired")
    for i in range(400):
        s.execute("SET millrace.task_clock_offset_ms = %d" % (300000 + i * 10000))
        put(s, "aging", "question %d" % i)
    tap.ok(stat(s, "aging", "entries") < 200, "expired entries go as others come (%s are left of 400)" % stat(s, "aging", "entries"))


def clearing(c):
    s, other = connect(c), connect(c)
    cache(s, "cleared")
    def fill():
        for t in "ab":
            for m in "xy":
                put(s, "cleared", "Where is it?", t + m, tenant=t, model=m, prompt_version="1", source="doc")
    def there():
        return "".join(t + m + " " for t in "ab" for m in "xy" if hit(other, "cleared", "Where is it?", tenant=t, model=m, prompt_version="1"))
    fill()
    tap.same(there(), "ax ay bx by ", "all is there")
    for args, left in (("tenant => 'a'", "bx by "), ("model => 'x'", "ay by "), ("tenant => 'b', model => 'y'", "ax ay bx "), ("prompt_version => '1'", ""),
                       ("source => 'doc'", ""), ("source => 'other'", "ax ay bx by "), ("source => 'doc', tenant => 'a'", "bx by "), ("tenant => 'c'", "ax ay bx by ")):
        fill()
        s.execute("BEGIN")
        s.execute(f"SELECT millrace.cache_clear('cleared', {args})")
        before = there()
        mine = hit(s, "cleared", "Where is it?", tenant="b", model="x", prompt_version="1")
        s.execute("COMMIT")
        tap.same((before, there(), mine), ("ax ay bx by ", left, "exact" if "bx" in left else None), "cleared by %s: at once here, with the commit for others" % args)
    fill()
    s.execute("BEGIN")
    s.execute("SELECT millrace.cache_clear('cleared')")
    s.execute("ROLLBACK")
    tap.same(there(), "ax ay bx by ", "rolled back, nothing was cleared")
    s.execute("SELECT millrace.cache_clear('cleared')")
    tap.same((there(), hit(s, "cleared", "where is it then?", tenant="a", model="x", prompt_version="1")), ("", None), "the whole cache")
    n = stat(s, "cleared", "entries")
    tap.same((s.execute("SELECT millrace.cache_sweep('cleared')").fetchone()[0], stat(s, "cleared", "entries")), (n, 0), "cache_sweep() deletes what was cleared")

    # asked before, put after: must not come in
    token = s.execute("SELECT millrace.cache_generation('cleared', 'a', 'x', '1', 'doc')").fetchone()[0]
    other.execute("SELECT millrace.cache_clear('cleared', source => 'doc')")
    tap.same(put(s, "cleared", "Where is it?", tenant="a", model="x", prompt_version="1", source="doc", generation=token), None,
             "an answer that was asked for before the clearing is not cached")
    token = s.execute("SELECT millrace.cache_generation('cleared', 'a', 'x', '1', 'doc')").fetchone()[0]
    tap.ok(put(s, "cleared", "Where is it?", tenant="a", model="x", prompt_version="1", source="doc", generation=token), "... another one is")

    s.execute("CREATE TABLE docs (body text); CREATE TRIGGER docs_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON docs FOR EACH STATEMENT "
              "EXECUTE FUNCTION millrace.clear_cache('cleared', 'docs')")
    put(s, "cleared", "What do the docs say?", source="docs")
    put(s, "cleared", "What is the time?", source="clock")
    tap.same(hit(s, "cleared", "What do the docs say?"), "exact", "an answer made from a table")
    s.execute("INSERT INTO docs VALUES ('new')")
    tap.same((hit(s, "cleared", "What do the docs say?"), hit(s, "cleared", "What is the time?")), (None, "exact"), "... goes with a change of the table, others stay")


def encoders(c):
    s = connect(c)
    cache(s, "plain", '{"encoder": null}')
    put(s, "plain", "How do I reset my password?")
    tap.same([hit(s, "plain", q) for q in ("how do I reset  my password ?", "How can I reset my password?")], ["exact", None], "without an encoder: exact hits only")
    cache(s, "strict", '{"threshold": 1}')
    put(s, "strict", "How do I reset my password?")
    tap.same([hit(s, "strict", q) for q in ("How do I reset my password", "How can I reset my password?")], ["exact", None], "threshold 1 is not the default")
    cache(s, "long")
    text = "Please summarize this: " + "it goes on and on and " * 150
    put(s, "long", text + "ends well.")
    tap.same([hit(s, "long", text + "ends well"), hit(s, "long", text + "ends badly.")], ["exact", None], "what an encoder cuts off is not taken for the same")
    put(s, "long", "How do I reset my password?")
    s.execute("SELECT millrace.alter_cache('long', '{\"encoder\": null}')")
    tap.same(hit(s, "long", "How do I reset my password?"), None, "another encoder empties the cache")


# ---- many at once, and what remains

def concurrency(c):
    s = connect(c)
    cache(s, "busy")
    one, two = connect(c), connect(c)
    for t in (one, two):
        t.execute("SET statement_timeout = '5s'")
        t.execute("BEGIN")
    put(one, "busy", "Who was first?", "one")
    put(one, "busy", "Who was next?", "one")
    put(two, "busy", "Who was next?", "two")
    put(two, "busy", "Who was first?", "two")
    one.execute("COMMIT")
    two.execute("COMMIT")
    tap.same([get(s, "busy", q)[3] for q in ("Who was first?", "Who was next?")], ["two", "two"], "two sessions put the same in either order: none waits, the later counts")
    put(s, "busy", "Who was first?", "three")
    tap.same((get(s, "busy", "Who was first?")[3], stat(s, "busy", "entries")), ("three", 3), "who puts it once more replaces what is there")

    errors = []
    def work(k):
        t = connect(c)
        try:
            for i in range(60):
                q = "What is item number %d of the list?" % (i % 20)
                if not hit(t, "busy", q):
                    put(t, "busy", q, q)
                elif get(t, "busy", q)[3] not in (q, None):       # cleared since
                    errors.append(q)
                if k == 0 and i % 10 == 0:
                    t.execute("SELECT millrace.cache_clear('busy')")
        except Exception as e:
            errors.append(str(e))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    tap.same(errors, [], "four sessions that ask, put and clear: no error, no wrong answer")
    t = connect(c)
    t.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    get(t, "busy", "Who was first?")
    put(s, "busy", "Who was first?", "four")
    tap.ok(put(t, "busy", "Who was first?", "five"), "REPEATABLE READ: putting does not fail for what others deleted")
    t.execute("ROLLBACK")
    t.execute("BEGIN READ ONLY")
    tap.same(hit(t, "busy", "Who was first?"), "exact", "looking up works in a read-only transaction")
    t.execute("ROLLBACK")


def capacity(c):
    s = connect(c)
    cache(s, "small", '{"capacity": 50, "encoder": null}')
    for i in range(120):
        put(s, "small", "question %d" % i)
    tap.same((stat(s, "small", "entries"), stat(s, "small", "evicted")), (50, 70), "a cache of 50 has 50 of 120")
    tap.same([hit(s, "small", "question %d" % i) for i in (69, 70, 119)], [None, "exact", "exact"], "the oldest made room")


def rights(c):
    s = connect(c)
    s.execute("CREATE ROLE owner_a LOGIN IN ROLE millrace_user; CREATE ROLE reader LOGIN IN ROLE millrace_user; CREATE ROLE stranger LOGIN IN ROLE millrace_user; CREATE ROLE nobody_at_all LOGIN")
    a, r, x, n = (connect(c, user=u) for u in ("owner_a", "reader", "stranger", "nobody_at_all"))
    cache(a, "owned", '{"roles": ["reader"]}')
    put(a, "owned", "q one")
    def error(session, sql):
        try:
            session.execute(sql)
        except psycopg.Error as e:
            return e.sqlstate
    tap.same(hit(r, "owned", "q one"), "exact", "a role of option roles may use it")
    tap.same([error(x, f"SELECT millrace.{f}") for f in ("cache_get('owned', 'q one')", "cache_put('owned', 'q', '1')", "cache_clear('owned')", "cache_judge('owned', 1, true)",
              "drop_cache('owned')", "cache_sweep('owned')", "cache_generation('owned')")], ["42501"] * 7, "others may not")
    tap.same([error(r, f"SELECT millrace.{f}") for f in ("drop_cache('owned')", "alter_cache('owned', '{}')")], ["42501"] * 2, "... nor change it, who may use it")
    tap.same([error(x, f"TABLE millrace.{t}") for t in ("caches", "cache_entries", "cache_generations", "cache_judgements", "stat_caches")], ["42501"] * 5, "nobody reads the tables")
    tap.same(error(n, "SELECT millrace.cache_get('owned', 'q one')"), "42501", "a role without rights on functions has none")
    x.execute("CREATE TEMPORARY TABLE t (a int)")
    x.execute("CREATE TRIGGER t AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION millrace.clear_cache('owned')")
    tap.same(error(x, "INSERT INTO t VALUES (1)"), "42501", "a trigger has the rights of its table's owner")
    tap.same([error(a, "SELECT millrace.create_cache('other', '%s')" % o) for o in ('{"threshold": 2}', '{"ttl": 5}', '{"ttl_s": 0}', '{"capacity": 1.5}', '{"roles": ["nobody there"]}', '[]',
              '{"encoder": "none"}', '{"guard": 1}')], ["22023", "22023", "22023", "22023", "42704", "22023", "42704", "22023"], "options are checked")
    tap.same([error(a, "SELECT millrace.create_cache('owned')"), error(a, "SELECT millrace.cache_get('no such', 'q')"), error(a, "SELECT millrace.cache_put('owned', NULL, '1')")],
             ["42710", "42704", "22004"], "names")
    a.execute("SELECT millrace.drop_cache('owned')")
    tap.same(s.execute("SELECT count(*) FROM millrace.cache_entries e WHERE NOT EXISTS (SELECT FROM millrace.caches c WHERE c.id = e.cache)").fetchone()[0], 0, "a dropped cache leaves nothing")


def docs(c):
    """The page's SQL runs as it stands there, and its first block says what the page says."""
    c.psql("CREATE DATABASE page")
    c.psql("CREATE EXTENSION millrace", db="page")
    minilm.install(c, db="page")
    blocks = re.findall(r"^```sql\n(.*?)^```", (HERE.parent / "docs/cache.md").read_text(), re.M | re.S)
    rows = [c.psql(block, db="page") for block in blocks]
    tap.same(rows[0][-2:], [("semantic", "Settings, then Security.", "0.862"), (None,)], "docs/cache.md: the first block; %d blocks run" % len(blocks))


def statistics(c):
    s = connect(c)
    cache(s, "counted", '{"sample": 1}')
    put(s, "counted", "How do I reset my password?", cost=0.5, latency_ms=2000)
    s.execute("SELECT millrace.cache_put('counted', 'What is the weather like?', '{\"text\": \"fine\", \"cost\": 0.25, \"latency_ms\": 1000}')")
    hit(s, "counted", "How do I reset my password?")
    r = get(s, "counted", "How can I reset my password?")
    hit(s, "counted", "What is the weather like?")
    hit(s, "counted", "Where do penguins live?")
    hit(s, "counted", "How can I not reset my password?")
    tap.same(s.execute("SELECT entries, exact_hits, semantic_hits, misses, guarded, put, sampled, cost_saved, seconds_saved FROM millrace.stat_caches WHERE name = 'counted'").fetchone(),
             (2, 2, 1, 2, 1, 2, 1, 1.25, 5.0), "hits, misses, what they saved")
    tap.ok(r[5], "of sample 1 a near hit is marked")
    for same in (True, True, True, False):
        s.execute("SELECT millrace.cache_judge('counted', %s, %s, 0.5, 'How can I reset my password?')", (r[1], same))
    judged = s.execute("SELECT judged, false_hits, false_hit_rate::float8, false_hit_rate_at_most::float8 FROM millrace.stat_caches WHERE name = 'counted'").fetchone()
    tap.same(judged[:3], (4, 1, 0.25), "judged hits estimate the false ones")
    tap.ok(abs(judged[3] - 0.6994) < 0.001, "... with Wilson's interval (%s)" % judged[3])
    s.execute("SELECT pg_stat_force_next_flush()")
    time.sleep(0.2)
    before = s.execute("SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname LIKE 'cache%%' OR relname = 'caches' ORDER BY relname").fetchall()
    for _ in range(200):
        hit(s, "counted", "How can I reset my password?")
    s.execute("SELECT pg_stat_force_next_flush()")
    time.sleep(0.2)
    tap.same(s.execute("SELECT n_tup_ins + n_tup_upd + n_tup_del FROM pg_stat_user_tables WHERE relname LIKE 'cache%%' OR relname = 'caches' ORDER BY relname").fetchall(), before,
             "200 hits write no row")


def restart(c):
    s = connect(c)
    cache(s, "kept", '{"ttl_s": null}')
    put(s, "kept", "How do I reset my password?", tenant="t")
    s.execute("SELECT millrace.cache_clear('kept', 'u')")
    s.close()
    c.restart("immediate")
    s = connect(c)
    tap.same([hit(s, "kept", "How do I reset my password?", tenant="t"), hit(s, "kept", "How can I reset my password?", tenant="t")], ["exact", "semantic"], "after a crash entries are there")
    c.program("pg_dump", "-Fc", "-f", str(TMP / "dump"), "postgres", as_server=False)
    c.psql("CREATE DATABASE copy")
    c.program("pg_restore", "-d", "copy", str(TMP / "dump"))
    t = connect(c, db="copy")
    tap.same([hit(t, "kept", "How do I reset my password?", tenant="t"), hit(t, "kept", "How can I reset my password?", tenant="t")], ["exact", "semantic"], "... and after a restore")
    tap.ok(put(t, "kept", "Another one?") > s.execute("SELECT max(id) FROM millrace.cache_entries").fetchone()[0], "... new ids follow the old ones")
    cache(t, "new one")
    tap.same(t.execute("SELECT count(*) = count(DISTINCT id) FROM millrace.caches").fetchone()[0], True, "... and caches")


TESTS = (guard, false_hits, paraphrases, tenants, ttl, clearing, encoders, concurrency, capacity, rights, statistics, docs, restart)

if __name__ == "__main__":
    minilm.folder()
    wanted = sys.argv[1:]
    pg = os.environ.get("PG_CONFIG") or relocate(TMP / "pg")
    with Cluster(pg or find_pg_config(), TMP / "cluster", conf={"fsync": "off"}) as cluster:
        cluster.psql("CREATE EXTENSION millrace")
        minilm.install(cluster)
        for test in TESTS:
            if not wanted or test.__name__ in wanted:
                tap.note(test.__name__)
                test(cluster)
    tap.done()
