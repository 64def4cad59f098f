"""What was sent, what is there, and whether anything was ever half there: for the fault suite.

Invariants by the names of the reliability notes: I1 lost, I2 twice, I3 phantom, I4 order, I5 damage, I6 torn.  The topic is read
by confluent-kafka, not by our code.
"""
import array
import functools
import json
import threading
import time

TURNS = 2000        # different rows of descriptors

SETUP = """SET ROLE app;
CREATE TABLE control (pause float); INSERT INTO control VALUES (0);
CREATE TABLE features (id bigint GENERATED ALWAYS AS IDENTITY, image_id text, descriptors real[], descriptor_count int CHECK (descriptor_count = 20),
    code varchar(8), source_partition int, source_offset bigint);
CREATE TABLE predictions (image_id text, label int, source_partition int, source_offset bigint) %(tablespace)s;
CREATE INDEX ON features (source_partition, source_offset);
CREATE INDEX ON predictions (source_partition, source_offset) %(tablespace)s;
CREATE FUNCTION predict() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE s float; BEGIN
    IF EXISTS (SELECT FROM new_rows WHERE image_id LIKE 'refuse%%') THEN RAISE EXCEPTION 'refused'; END IF;
    INSERT INTO predictions SELECT image_id, (descriptors[1] > 0)::int, source_partition, source_offset FROM new_rows;
    SELECT pause INTO s FROM control;
    IF s > 0 THEN PERFORM pg_sleep(s); END IF;          -- rows are inserted, nothing is committed
    RETURN NULL; END $$;
CREATE TRIGGER predict AFTER INSERT ON features REFERENCING NEW TABLE AS new_rows EXECUTE FUNCTION predict();"""


@functools.lru_cache(None)
def descriptors(turn):
    return [((turn * 31 + k * 17) % TURNS - 1000) / 1000 for k in range(20)]


@functools.lru_cache(None)
def descriptors_json(turn):
    return json.dumps(descriptors(turn), separators=(',', ':')).encode()


def as_array(values):
    """As PostgreSQL writes a real[] of numbers with three decimals."""
    return '{%s}' % ','.join(['%g' % v for v in values])


def is_poison(i, poison_every):
    return i % poison_every == 37


def message(i, poison_every):
    """Value of message i."""
    if not is_poison(i, poison_every):
        return b'{"image_id":"img-%07d","descriptors":%s,"descriptor_count":20}' % (i, descriptors_json(i % TURNS))
    good = {'image_id': 'img-%07d' % i, 'descriptors': descriptors(i % TURNS), 'descriptor_count': 20}
    text = json.dumps(good)
    kinds = [text[:-20].encode(), b'\x00\xff\xfe', b'[1,2,3]', text.replace('"descriptors": [', '"descriptors": ["x",').encode(), text.replace(': 20', ': 19').encode(),
             text.replace(': 20', ': 99999999999').encode(), text.replace('"img-', '"refuse-').encode(), json.dumps({**good, 'code': 'much too long'}).encode(),
             text.replace('img-', 'img\\u0000').encode(), text.replace('img-', 'img\udcff').encode('utf-8', 'surrogateescape')]
    return kinds[i // poison_every % 10]


class Sender(threading.Thread):
    """Sends `total` messages round the partitions, never more than `lead` ahead of what the database has committed."""

    def __init__(self, kafka, total, partitions, lead, poison_every):
        super().__init__(daemon=True)
        # Straight to the broker, for ever: what goes wrong here is not what is tested.
        self.producer = kafka.producer(**{'message.timeout.ms': 0, 'queue.buffering.max.kbytes': 262144})
        self.total, self.partitions, self.lead, self.poison_every = total, partitions, lead, poison_every
        self.acked = [(array.array('q'), array.array('q')) for _ in range(partitions)]      # offsets, message numbers
        self.committed = self.sent = 0
        self.stop = False

    def run(self):
        def delivered(i):
            def note(err, msg):
                assert err is None, err
                offsets, numbers = self.acked[msg.partition()]
                offsets.append(msg.offset())
                numbers.append(i)
            return note
        for i in range(self.total):
            while self.sent - self.committed > self.lead and not self.stop:
                self.producer.poll(0.02)
            if self.stop:
                return
            while True:
                try:
                    self.producer.produce('features', message(i, self.poison_every), key=b'%d' % i, partition=i % self.partitions, on_delivery=delivered(i))
                    break
                except BufferError:
                    self.producer.poll(0.05)
            self.sent += 1
            if i % 100 == 0:
                self.producer.poll(0)
        while self.producer.flush(1) and not self.stop:
            pass


class Watcher(threading.Thread):
    """Every 200 ms, in one snapshot: are rows, predictions, dead letters and offsets those of the same messages?"""
    QUERY = """SELECT o.partition, o.next_offset, o.rows,
        (SELECT count(*) FROM features f WHERE f.source_partition = o.partition AND f.source_offset >= o.next_offset)
        + (SELECT count(*) FROM predictions p WHERE p.source_partition = o.partition AND p.source_offset >= o.next_offset)
        + (SELECT count(*) FROM millrace.dead_letters d WHERE d.partition = o.partition AND d."offset" >= o.next_offset AND d.source = o.source),
        (SELECT count(*) FROM features f WHERE f.source_partition = o.partition AND f.source_offset >= coalesce(s.upto, 0) AND f.source_offset < o.next_offset),
        (SELECT count(*) FROM predictions p WHERE p.source_partition = o.partition AND p.source_offset >= coalesce(s.upto, 0) AND p.source_offset < o.next_offset),
        (SELECT count(*) FROM millrace.dead_letters d WHERE d.partition = o.partition AND d."offset" >= coalesce(s.upto, 0) AND d."offset" < o.next_offset AND d.source = o.source)
        FROM millrace.source_offsets o LEFT JOIN unnest(%s::int[], %s::bigint[]) AS s(partition, upto) USING (partition)"""

    def __init__(self, c, sender):
        super().__init__(daemon=True)
        self.c, self.sender = c, sender
        self.seen = {}              # partition -> next_offset and rows of the last look
        self.looks = self.starved = 0
        self.torn = []
        self.stop = False

    def look(self, db):
        seen = self.seen
        rows = db.execute(self.QUERY, (list(seen), [s[0] for s in seen.values()])).fetchall()
        for partition, upto, total, early, features, predictions, dead in rows:
            before, total_before = seen.get(partition, (0, 0))
            if early or features + dead != upto - before or predictions != features or total - total_before != features:
                self.torn.append('partition %d, offsets %d to %d: %d beyond, %d rows (%d counted), %d predictions, %d dead letters'
                                 % (partition, before, upto, early, features, total - total_before, predictions, dead))
            seen[partition] = (upto, total)
        self.sender.committed = sum(s[0] for s in seen.values())
        self.looks += 1
        self.starved += self.sender.sent <= self.sender.committed

    def run(self):
        import psycopg
        while not self.stop:
            try:
                with psycopg.connect(self.c.dsn() + ' connect_timeout=5', autocommit=True) as db:
                    db.execute("SET default_transaction_isolation = 'repeatable read'; SET enable_seqscan = off; SET jit = off")
                    while not self.stop:
                        self.look(db)
                        time.sleep(0.2)
            except psycopg.Error:
                time.sleep(0.2)     # the server is down, as planned


def read_partition(kafka, topic, partition, timeout=120):
    """(offset, key, value) in order, as a reader of committed messages sees them."""
    from confluent_kafka import Consumer, KafkaError, TopicPartition
    c = Consumer({'bootstrap.servers': kafka.bootstrap, 'group.id': 'oracle', 'enable.auto.commit': False, 'isolation.level': 'read_committed',
                  'enable.partition.eof': True, 'auto.offset.reset': 'error', 'log_level': 0})
    c.assign([TopicPartition(topic, partition, c.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)[0])])
    out, end = [], time.time() + timeout
    while time.time() < end:
        for m in c.consume(10000, 0.5):
            if m.error() and m.error().code() == KafkaError._PARTITION_EOF:
                c.close()
                return out
            if m.error():
                raise RuntimeError(m.error().str())
            out.append((m.offset(), m.key(), m.value()))
    raise RuntimeError('the topic could not be read within %d s' % timeout)


def verdict(c, kafka, sender):
    """Count what is wrong, partition by partition: the topic against acknowledgements, rows, predictions and dead letters."""
    import psycopg
    wrong = dict.fromkeys(['unsent', 'lost', 'twice', 'phantom', 'damaged', 'unordered', 'predictions', 'dead letters'], 0)
    total = 0
    for partition in range(sender.partitions):
        topic = read_partition(kafka, 'features', partition)
        total += len(topic)
        placed = dict(zip(*sender.acked[partition]))
        wrong['unsent'] += sum(key != b'%d' % placed.get(offset, -1) for offset, key, _ in topic) + abs(len(placed) - len(topic))
        good, poison = [], {}
        for offset, key, value in topic:
            if is_poison(int(key), sender.poison_every):
                poison[offset] = value
            else:
                m = json.loads(value)
                good.append((offset, m['image_id'], as_array(m['descriptors'])))
        with psycopg.connect(c.dsn()) as db:
            rows = db.execute('SELECT source_offset, image_id, descriptors::text, id FROM features WHERE source_partition = %s ORDER BY source_offset, id', (partition,)).fetchall()
            predictions = db.execute('SELECT source_offset, image_id FROM predictions WHERE source_partition = %s ORDER BY source_offset', (partition,)).fetchall()
            dead = db.execute('SELECT "offset", value FROM millrace.dead_letters WHERE partition = %s', (partition,)).fetchall()
        expected = {offset for offset, _, _ in good}
        there = {r[0] for r in rows}
        wrong['lost'] += len(expected - there)
        wrong['twice'] += len(rows) - len(there)
        wrong['phantom'] += len(there - expected)
        wrong['damaged'] += len({r[:3] for r in rows} - set(good))
        wrong['unordered'] += sum(a[3] > b[3] for a, b in zip(rows, rows[1:]))
        wrong['predictions'] += predictions != [g[:2] for g in good]
        wrong['dead letters'] += dict(dead) != poison or len(dead) != len(poison)
    return total, wrong
