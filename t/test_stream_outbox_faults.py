"""Rows leave for Kafka under faults of every kind (lib/faults.py): each committed one once, none that was rolled back, in order per key.

    python t/test_stream_outbox_faults.py                     # 20,000 rows, 10 faults: for make check
    MILLRACE_SOAK=1 python t/test_stream_outbox_faults.py     # 200,000 and 60: make soak
    python t/test_stream_outbox_faults.py 5000 4              # or any numbers
    MILLRACE_SEED=n MILLRACE_FAULTS='cut,failpoint,…'         # the faults of an earlier run, or these
"""
# lane: waits
# timeout: 900
import os
import random
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.faults import QUICK_AGAIN, World, eventually, library, plan
from lib.kafka import Kafka, free_port
from lib.proxy import Proxy
from lib.stream import cluster, folder, prepare

SOAK, FULL = bool(os.environ.get('MILLRACE_SOAK')), bool(os.environ.get('MILLRACE_FULL'))
NUMBERS = [int(a) for a in sys.argv[1:3] if a.isdigit()]
ROWS, FAULTS = NUMBERS if len(NUMBERS) == 2 else (200000, 60) if SOAK or FULL else (20000, 10)
KEYS, WRITERS, ROWS_A_TURN = 100, 3, 28         # ROWS_A_TURN: on average, of one writer
FAULT_S = 5                 # in which a fault's share of the rows is written
LIVE_S = 60                 # after the last fault, everything has left within this time


class Writers:
    """Sessions that write facts and publish them in one transaction; a tenth of them rolls back."""

    def __init__(self, c, seed):
        self.c, self.wrote, self.limit, self.stop = c, 0, 0, False     # limit: rows that may be written by now
        self.nap = WRITERS * ROWS_A_TURN * FAULT_S / (ROWS / FAULTS)
        self.threads = [threading.Thread(target=self.write, args=(random.Random('%s writer %d' % (seed, n)),), daemon=True) for n in range(WRITERS)]
        for t in self.threads:
            t.start()

    def write(self, r):
        import psycopg
        while not self.stop and self.wrote < ROWS:
            try:
                with psycopg.connect(self.c.dsn() + ' connect_timeout=5') as db:
                    while not self.stop and self.wrote < ROWS:
                        while self.wrote > self.limit and not self.stop:
                            time.sleep(0.05)
                        keys = sorted(r.sample(range(KEYS), r.choice([1, 1, 5, 50, 100])))
                        rows = db.execute('UPDATE counter SET n = n + 1 WHERE k = ANY (%s) RETURNING k, n', (keys,)).fetchall()
                        columns = [k for k, _ in rows], [n for _, n in rows]
                        db.execute('INSERT INTO fact (k, n) SELECT * FROM unnest(%s::int[], %s::int[])', columns)
                        db.execute("SELECT millrace.publish('k', 'facts', n::text, k::text) FROM unnest(%s::int[], %s::int[]) AS u(k, n)", columns)
                        if r.random() < 0.1:
                            db.rollback()
                        else:
                            db.commit()
                            self.wrote += len(rows)
                        time.sleep(self.nap * r.uniform(0.5, 1.5))
            except psycopg.Error:
                time.sleep(0.2)


def messages(c):
    return int(c.value('SELECT messages FROM millrace.outbox_progress'))


def inject(world, writers, kinds, seed):
    out = []
    for n, kind in enumerate(kinds):
        writers.limit = ROWS * (n + 1.5) / len(kinds)
        eventually('more rows are written', lambda: writers.wrote >= ROWS * (n + 0.5) / len(kinds) or writers.wrote >= ROWS, 300)
        hit = world.working(looks=10)
        t, at = time.monotonic(), writers.wrote
        text = world.inject(kind, random.Random('%s %d' % (seed, n + 1)))
        healed, stand = time.monotonic(), eventually('the progress is there', lambda: messages(world.c) + 1)
        eventually('%s is over' % text, lambda: messages(world.c) >= stand or writers.wrote >= ROWS, 120)
        over = time.monotonic() - healed
        tap.note('fault %d: %s, at %d rows%s; %.1f s, over after %.1f s' % (n + 1, text, at, ', a batch under way' if hit else '', healed - t, over))
        out.append((over, len(hit)))
    return out


def main():
    seed = os.environ.get('MILLRACE_SEED') or str(int(time.time()))
    place, inner, started = folder('stream_outbox_faults'), free_port(), time.monotonic()
    with Proxy(inner) as proxy, Kafka(place, settings=QUICK_AGAIN, proxied=(inner, proxy.port)) as kafka, \
            cluster('stream_outbox_faults', {'restart_after_crash': 'on', **library(place)}) as c:
        prepare(c, kafka)
        c.psql("ALTER SERVER k OPTIONS (SET brokers '127.0.0.1:%d')" % proxy.port)
        c.psql("SELECT millrace.create_outbox('k', '{\"owner\": \"app\"}')")
        kafka.create_topic('facts', 6)
        c.psql('CREATE TABLE fact (id bigserial PRIMARY KEY, k int, n int); CREATE TABLE counter (k int PRIMARY KEY, n int); '
               'INSERT INTO counter SELECT g, 0 FROM generate_series(0, %d) g' % (KEYS - 1))
        world = World(c, kafka, proxy, 'outbox')
        kinds = os.environ['MILLRACE_FAULTS'].split(',') if os.environ.get('MILLRACE_FAULTS') else plan(world, FAULTS, random.Random(seed))
        tap.note('seed %s; faults: %s' % (seed, ','.join(kinds)))
        writers = Writers(c, seed)
        try:
            results = inject(world, writers, kinds, seed)
            last = time.monotonic()
            writers.nap, writers.limit = 0, ROWS
            for t in writers.threads:
                t.join(300)
        except AssertionError:
            world.explain()
            raise
        finally:
            writers.stop = True
        world.up()
        c.wait_for('SELECT s.waiting = 0 AND p.confirmed FROM millrace.outbox_status s JOIN millrace.outbox_progress p USING (server)', 't', 180)
        live = time.monotonic() - last
        tap.note('%d rows and %d faults in %.0f s, %d of them while a batch was under way; failpoints and frames that nobody met: %s'
                 % (writers.wrote, len(kinds), time.monotonic() - started, sum(h > 0 for _, h in results), world.missed or 'none'))
        tap.ok(max(o for o, _ in results) <= LIVE_S, 'work went on within %d s of each fault (longest %.1f)' % (LIVE_S, max(o for o, _ in results)))
        tap.ok(live <= LIVE_S, 'everything had left within %d s of the last fault (%.1f)' % (LIVE_S, live))
        facts, got = {}, {}
        for k, n in c.psql('SELECT k, n FROM fact ORDER BY k, n'):
            facts.setdefault(k, []).append(int(n))
        for _, _, k, v in sorted(kafka.read_all('facts', timeout=120)):
            got.setdefault(k.decode(), []).append(int(v))
        wrong = {'lost': sum(len(set(v) - set(got.get(k, []))) for k, v in facts.items()),
                 'twice': sum(len(v) - len(set(v)) for v in got.values()),
                 'phantom': sum(len(set(v) - set(facts.get(k, []))) for k, v in got.items()),
                 'unordered': sum(v != sorted(v) for v in got.values())}
        tap.same({k: n for k, n in wrong.items() if n}, {}, 'each committed row left once (%d), none else, in order per key' % sum(map(len, got.values())))
        tap.same(c.value('SELECT dead FROM millrace.outbox_status'), '0', 'no fault made a dead letter')
        tap.same(world.unplanned_deaths()[:3], [], 'no process ended by a signal that the test did not send')
    tap.done()


if __name__ == '__main__':
    main()
