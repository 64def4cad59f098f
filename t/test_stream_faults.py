"""Exactly once under faults of every kind (lib/faults.py), while messages keep coming: half of the faults with a sender that keeps a
little ahead, half from a backlog.  Checked against a reader of the topic that is not ours, and every 200 ms for anything half there.

    python t/test_stream_faults.py                     # 100,000 messages, 30 faults: for make check
    MILLRACE_SOAK=1 python t/test_stream_faults.py     # 2,000,000 and 300: make soak
    python t/test_stream_faults.py 20000 12            # or any numbers
    MILLRACE_SEED=n MILLRACE_FAULTS='cut,zombie,…'     # the faults of an earlier run, or these
    MILLRACE_OPTIONS='{"transform": "SELECT * FROM message"}'      # further options of the source
"""
# lane: waits
# timeout: 900
import json
import os
import random
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.faults import QUICK_AGAIN, World, eventually, library, plan, small_disk
from lib.kafka import Kafka, free_port
from lib.oracle import SETUP, Sender, Watcher, verdict
from lib.proxy import Proxy
from lib.stream import cluster, create, folder, prepare

SOAK, FULL = bool(os.environ.get('MILLRACE_SOAK')), bool(os.environ.get('MILLRACE_FULL'))
NUMBERS = [int(a) for a in sys.argv[1:3] if a.isdigit()]
MESSAGES, FAULTS = NUMBERS if len(NUMBERS) == 2 else (2000000, 300) if SOAK else (300000, 60) if FULL else (100000, 30)
PARTITIONS, WORKERS, BATCH = 12, 3, 200
LEAD = 60 * BATCH           # of the sender, while it is paced
POISON_EVERY = 500
LIVE_S = 60                 # after the last fault, everything is read within this time


class Pace:
    """Batches wait before they commit, so long that messages last for the faults that are to come."""
    FAULT_S = 3             # in which a fault's share of the messages would be read

    def __init__(self, c, rng):
        self.c, self.rng = c, rng

    def set(self, messages_left, faults_left):
        pause = min(WORKERS * BATCH * self.FAULT_S * faults_left / max(messages_left, 1), 5)
        self.off(round(pause * self.rng.uniform(0.5, 1.2), 3))

    def off(self, pause=0):
        eventually('the pace is set', lambda: self.c.psql('UPDATE control SET pause = %s RETURNING 1' % pause, user='app'), 120)


def inject(world, sender, watcher, kinds, seed, first, pace, until):
    """These faults, the first being number `first`, spread over the messages up to `until`; [(seconds to recover, workers hit)]."""
    out = []
    for n, kind in enumerate(kinds):
        pace.set(until - sender.committed, len(kinds) - n)
        before = sender.committed
        step = max((until - before) // (len(kinds) - n) // 2, 1)
        eventually('more is committed and something is left', lambda: sender.committed >= before + step and sender.sent > sender.committed or sender.committed == MESSAGES, 180)
        hit = world.working(looks=20)
        at, t = sender.committed, time.monotonic()
        text = world.inject(kind, random.Random('%s %d' % (seed, first + n)))
        healed, stand = time.monotonic(), sender.committed
        eventually('%s is over' % text, lambda: sender.committed > stand or sender.committed == MESSAGES, 120)
        over = time.monotonic() - healed
        tap.note('fault %d: %s, at %d messages, %d workers in a batch; %.1f s, over after %.1f s' % (first + n, text, at, len(hit), healed - t, over))
        out.append((over, len(hit)))
    return out


def main():
    seed = os.environ.get('MILLRACE_SEED') or str(int(time.time()))
    rng = random.Random(seed)
    place = folder('stream_faults')
    inner = free_port()
    started = time.monotonic()
    with small_disk(place, 128 + MESSAGES // 4000) as disk, Proxy(inner) as proxy, \
            cluster('stream_faults', {'restart_after_crash': 'on', 'max_worker_processes': 32, 'shared_buffers': '256MB', 'max_wal_size': '1GB',
                                      **library(place)}) as c, \
            Kafka(place, settings=QUICK_AGAIN, proxied=(inner, proxy.port)) as kafka:
        prepare(c, kafka)
        c.psql("ALTER SERVER k OPTIONS (SET brokers '127.0.0.1:%d')" % proxy.port)
        if disk:
            c.psql("CREATE TABLESPACE small LOCATION '%s'; GRANT CREATE ON TABLESPACE small TO app" % disk)
        c.psql(SETUP % {'tablespace': 'TABLESPACE small' if disk else ''})
        kafka.create_topic('features', PARTITIONS)
        create(c, 'features', 'features', 'features', json.dumps({'workers': WORKERS, 'batch_rows': BATCH, **json.loads(os.environ.get('MILLRACE_OPTIONS', '{}'))}))
        world = World(c, kafka, proxy, 'source', 'features', disk)
        kinds = os.environ['MILLRACE_FAULTS'].split(',') if os.environ.get('MILLRACE_FAULTS') else plan(world, FAULTS, rng)
        tap.note('seed %s%s; faults: %s' % (seed, '' if disk else '; no full disks, since no tmpfs can be mounted', ','.join(kinds)))
        sender = Sender(kafka, MESSAGES, PARTITIONS, LEAD, POISON_EVERY)
        watcher = Watcher(c, sender)
        pace = Pace(c, rng)
        sender.start()
        watcher.start()
        half = len(kinds) // 2
        try:
            results = inject(world, sender, watcher, kinds[:half], seed, 1, pace, MESSAGES // 2)
            tap.note('paced half: %.0f s; nothing was left to read in %d of %d looks' % (time.monotonic() - started, watcher.starved, watcher.looks))
            sender.lead = MESSAGES
            pace.off(5)         # until it lies there
            eventually('the backlog is sent', lambda: sender.sent == MESSAGES, 300)
            tap.note('backlog of %d messages' % (MESSAGES - sender.committed))
            results += inject(world, sender, watcher, kinds[half:], seed, half + 1, pace, MESSAGES - max(MESSAGES // 20, min(15000, MESSAGES // 5)))
            pace.off()
            last = time.monotonic()
            eventually('everything is read', lambda: sender.committed >= MESSAGES, 300)
            live = time.monotonic() - last
            sender.join(60)
        except AssertionError:
            world.explain()
            raise
        finally:
            sender.stop = watcher.stop = True
        watcher.join(30)
        tap.note('%d messages and %d faults in %.0f s; failpoints and frames that nobody met: %s'
                 % (MESSAGES, len(kinds), time.monotonic() - started, world.missed or 'none'))
        tap.note('%d faults met at least one worker in the middle of a batch' % sum(h > 0 for _, h in results))
        tap.ok(max(o for o, _ in results) <= LIVE_S, 'work went on within %d s of each fault (longest %.1f)' % (LIVE_S, max(o for o, _ in results)))
        tap.ok(live <= LIVE_S, 'everything was read within %d s of the last fault (%.1f)' % (LIVE_S, live))
        tap.same(watcher.torn[:3], [], 'nothing was ever half there (%d looks)' % watcher.looks)
        total, wrong = verdict(c, kafka, sender)
        tap.same(total, MESSAGES, 'the topic holds every message once')
        tap.same({k: n for k, n in wrong.items() if n}, {}, 'each good message is one row and one prediction, in order; each poison message one dead letter')
        tap.same(world.unplanned_deaths()[:3], [], 'no process ended by a signal that the test did not send')
        tap.note('in all %.0f s' % (time.monotonic() - started))
    tap.done()


if __name__ == '__main__':
    main()
