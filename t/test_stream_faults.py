"""Exactly once under faults: workers killed with SIGKILL (a third of them between INSERT and COMMIT), the server stopped at once,
while messages keep coming; 1 % of them poison of ten kinds.  Checked against a reader of the topic that is not ours.

    python t/test_stream_faults.py            # 40,000 messages, 8 kills, 2 immediate shutdowns: for make check
    python t/test_stream_faults.py full       # 200,000, 20 and 5
"""
# timeout: 900
import json
import os
import random
import re
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import SqlError
from lib.kafka import Kafka
from lib.stream import cluster, create, folder, prepare

FULL = 'full' in sys.argv[1:] or bool(os.environ.get('MILLRACE_FULL')) or bool(os.environ.get('MILLRACE_FULL'))
MESSAGES, KILLS, STOPS, BATCH = (200000, 20, 5, 1000) if FULL else (40000, 8, 2, 200)
PARTITIONS = 6
BACKLOG = 4 * BATCH     # the sender keeps this many messages ahead of what is committed
PAUSE = 0.1             # seconds that each batch waits before it commits, while faults are injected

SETUP = """SET ROLE app;
CREATE TABLE control (pause float); INSERT INTO control VALUES (%s);
CREATE TABLE features (image_id text, descriptors real[], descriptor_count int CHECK (descriptor_count = 20), code varchar(8), source_partition int, source_offset bigint);
CREATE TABLE predictions (image_id text, label int, source_partition int, source_offset bigint);
CREATE INDEX ON features (source_partition, source_offset);
CREATE INDEX ON predictions (source_partition, source_offset);
CREATE FUNCTION predict() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE s float; BEGIN
    IF EXISTS (SELECT FROM new_rows WHERE image_id LIKE 'refuse%%') THEN RAISE EXCEPTION 'refused'; END IF;
    INSERT INTO predictions SELECT image_id, (descriptors[1] > 0)::int, source_partition, source_offset FROM new_rows;
    SELECT pause INTO s FROM control;
    IF s > 0 THEN PERFORM pg_sleep(s); END IF;          -- rows are inserted, nothing is committed
    RETURN NULL; END $$;
CREATE TRIGGER predict AFTER INSERT ON features REFERENCING NEW TABLE AS new_rows EXECUTE FUNCTION predict();"""


def message(i):
    """Value and headers of message i, and whether it is poison."""
    good = {'image_id': 'img-%07d' % i, 'descriptors': [round(((i * 31 + k * 17) % 2000) / 1000 - 1, 4) for k in range(20)], 'descriptor_count': 20}
    if i % 100 != 37:
        return json.dumps(good, separators=(',', ':')).encode(), False
    text = json.dumps(good)
    kinds = [text[:-20].encode(), b'\x00\xff\xfe', b'[1,2,3]', text.replace('"descriptors": [', '"descriptors": ["x",').encode(), text.replace(': 20', ': 19').encode(),
             text.replace(': 20', ': 99999999999').encode(), text.replace('"img-', '"refuse-').encode(), json.dumps({**good, 'code': 'much too long'}).encode(),
             text.replace('img-', 'img\\u0000').encode(), text.replace('img-', 'img\udcff').encode('utf-8', 'surrogateescape')]
    return kinds[i // 100 % 10], True


class Sender(threading.Thread):
    """Sends all messages, at most BACKLOG ahead of what the database has committed."""

    def __init__(self, kafka):
        super().__init__(daemon=True)
        self.producer = kafka.producer()
        self.placed = {}            # (partition, offset) -> message number
        self.committed = self.sent = 0
        self.starved = 0            # looks that found no lag
        self.stop = False

    def run(self):
        def delivered(i):
            def note(err, msg):
                assert err is None, err
                self.placed[(msg.partition(), msg.offset())] = i
            return note
        for i in range(MESSAGES):
            while self.sent - self.committed > BACKLOG and not self.stop:
                self.producer.poll(0.02)
            if self.stop:
                return
            self.producer.produce('features', message(i)[0], key=b'%d' % i, partition=i % PARTITIONS, on_delivery=delivered(i))
            self.sent += 1
            if i % 100 == 0:
                self.producer.poll(0)
        self.producer.flush(60)


class Watcher(threading.Thread):
    """Every 200 ms, in one snapshot: is anything half there?"""
    QUERY = """SELECT (SELECT coalesce(sum(next_offset), 0) FROM millrace.source_offsets),
        (SELECT count(*) FROM millrace.source_offsets o JOIN features f ON f.source_partition = o.partition AND f.source_offset >= o.next_offset)
        + (SELECT count(*) FROM millrace.source_offsets o JOIN predictions p ON p.source_partition = o.partition AND p.source_offset >= o.next_offset)
        + (SELECT count(*) FROM millrace.source_offsets o JOIN millrace.dead_letters d ON d.partition = o.partition AND d."offset" >= o.next_offset)
        + (SELECT abs(coalesce(sum(rows), 0) - (SELECT count(*) FROM features)) + abs(coalesce(sum(rows), 0) - (SELECT count(*) FROM predictions)) FROM millrace.source_offsets)"""

    def __init__(self, c, sender):
        super().__init__(daemon=True)
        self.c, self.sender, self.looks, self.torn, self.stop, self.faults = c, sender, 0, [], False, False

    def run(self):
        while not self.stop:
            try:
                done, torn = self.c.psql(self.QUERY)[0]
                self.sender.committed = int(done)
                self.sender.starved += self.faults and self.sender.sent == int(done)
                self.looks += self.faults
                if torn != '0':
                    self.torn.append((done, torn))
            except SqlError:
                pass                # the server is down, as planned
            time.sleep(0.2)


def wait(what, condition, timeout=120):
    end = time.monotonic() + timeout
    while True:
        try:
            if condition():
                return
        except SqlError:
            pass
        if time.monotonic() > end:
            raise AssertionError('waited %d s until %s' % (timeout, what))
        time.sleep(0.05)


def workers(c, held=False):
    """Process ids; held: of those that have inserted and now sleep the long sleep before they commit."""
    return [int(r[0]) for r in c.psql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'millrace source'"
                                      + (f" AND wait_event = 'PgSleep' AND clock_timestamp() - xact_start > interval '{3 * PAUSE} s'" if held else ''))]


def inject(c, sender, rng, watcher):
    """All faults, spread over the messages, at least one percent of them between two; list of what hit."""
    plan = ['open transaction'] * ((KILLS + 2) // 3) + ['any time'] * (KILLS - (KILLS + 2) // 3) + ['immediate shutdown'] * STOPS
    rng.shuffle(plan)
    hit, step = [], MESSAGES * 7 // 10 // len(plan)
    watcher.faults = True
    for kind in plan:
        start = sender.committed
        wait('more is committed', lambda: sender.committed >= start + step, 180)
        time.sleep(rng.random() * 0.2)
        before = sender.committed
        if kind == 'immediate shutdown':
            c.stop('immediate')
            c.start()
        else:
            if kind == 'open transaction':
                c.psql('UPDATE control SET pause = 10', user='app')
                found = []
                wait('a worker has inserted and not committed', lambda: found.extend(workers(c, held=True)) or found)
                victim = found[0]
            else:
                wait('there are workers', lambda: workers(c))
                victim = rng.choice(workers(c))
            mark = c.log_mark()
            os.kill(victim, signal.SIGKILL)
            wait('the server noticed', lambda: 'terminated by signal 9' in c.logs_since(mark))
            if kind == 'open transaction':
                wait('the server is back', lambda: c.psql(f'UPDATE control SET pause = {PAUSE}', user='app') == [])
        wait('the server is back', lambda: c.value('SELECT 1') == '1')
        hit.append((kind, before))
    watcher.faults = False
    wait('the server is back', lambda: c.psql('UPDATE control SET pause = 0', user='app') == [])
    return hit


def main():
    seed = int(os.environ.get('MILLRACE_SEED') or time.time())
    tap.note('seed %d' % seed)
    rng = random.Random(seed)
    with cluster('stream_faults', {'restart_after_crash': 'on'}) as c, Kafka(folder('stream_faults')) as kafka:
        prepare(c, kafka)
        c.psql(SETUP % PAUSE)
        kafka.create_topic('features', PARTITIONS)
        t = time.monotonic()
        create(c, 'features', 'features', 'features', '{"workers": 2, "batch_rows": %d}' % BATCH)
        sender = Sender(kafka)
        watcher = Watcher(c, sender)
        sender.start()
        watcher.start()
        try:
            hit = inject(c, sender, rng, watcher)
            sender.join(600)
            wait('everything is read', lambda: sender.committed >= MESSAGES, 120)
        finally:
            sender.stop = watcher.stop = True
        watcher.join(30)
        tap.note('%d messages in %.0f s; no lag in %d of %d looks while faults were injected' % (MESSAGES, time.monotonic() - t, sender.starved, watcher.looks))
        for i, (kind, at) in enumerate(hit):
            tap.note('fault %d: %s, at %d messages' % (i + 1, kind, at))
        kills = len(re.findall('terminated by signal 9', c.logs()))
        tap.same((kills, sum(k == 'immediate shutdown' for k, _ in hit)), (KILLS, STOPS), '%d kills and %d immediate shutdowns hit' % (KILLS, STOPS))
        tap.ok(all(b[1] - a[1] >= MESSAGES // 100 for a, b in zip(hit, hit[1:])), 'one percent of the messages was committed between any two faults')
        tap.same(watcher.torn[:3], [], 'nothing was ever half there (%d looks)' % watcher.looks)

        # What the topic holds, by a reader that is not ours, against what the database holds.
        topic = {(p, o): (k, v) for p, o, k, v in kafka.read_all('features')}
        tap.same(len(topic), MESSAGES, 'the topic holds every message once')
        good, poison = {}, {}
        for place, (key, value) in topic.items():
            (poison if message(int(key))[1] else good)[place] = value
        rows = [(int(p), int(o), i) for p, o, i in c.psql('SELECT source_partition, source_offset, image_id FROM features')]
        tap.same(len(rows), len(good), 'as many rows as good messages')
        tap.same({(p, o): i for p, o, i in rows}, {place: json.loads(v)['image_id'] for place, v in good.items()}, 'the same messages: none lost, none twice, none changed')
        tap.same(c.psql('SELECT count(*), count(DISTINCT (source_partition, source_offset)), (SELECT count(*) FROM features f WHERE NOT EXISTS '
                        '(SELECT FROM predictions p WHERE p.image_id = f.image_id AND p.source_offset = f.source_offset AND p.source_partition = f.source_partition)) FROM predictions'),
                 [(str(len(good)), str(len(good)), '0')], 'one prediction for each')
        dead = [(int(p), int(o), bytes.fromhex(v[2:])) for p, o, v in c.psql('SELECT partition, "offset", value FROM millrace.dead_letters')]
        tap.same(len(dead), len(poison), 'as many dead letters as poison messages')
        tap.same({(p, o): v for p, o, v in dead}, poison, 'the same messages, byte for byte')
        tap.note(dict(c.psql('SELECT sqlstate, count(*) FROM millrace.dead_letters GROUP BY 1 ORDER BY 1')))
        bad = [l for l in c.logs().splitlines() if 'PANIC' in l or ('terminated by signal' in l and 'signal 9' not in l)]
        tap.same(bad[:3], [], 'no process ended by a signal that the test did not send')
    tap.done()


if __name__ == '__main__':
    main()
