"""Messages become rows, once: types, defaults, properties, poison of every kind, restart, pause, latency."""
# timeout: 600
import base64
import json
import os
import signal
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import caught_up, create, gone, run, worker_pids


def types(c, kafka):
    c.psql("""SET ROLE app;
        CREATE TYPE mood AS ENUM ('sad', 'happy');
        CREATE DOMAIN positive AS int CHECK (VALUE > 0);
        CREATE TABLE typed (id bigint PRIMARY KEY, t text, v varchar(5), u uuid, i2 smallint, i4 int, n numeric(8,2), f4 real, f8 double precision,
            b boolean, ts timestamptz, d date, by bytea, j jsonb, af4 real[], af8 float8[], ai int[], at text[], au uuid[], m mood, p positive,
            given int DEFAULT 7, seq int GENERATED ALWAYS AS IDENTITY, twice int GENERATED ALWAYS AS (i4 * 2) STORED,
            source text, source_topic text, source_partition int, source_offset bigint, source_time timestamptz, source_key text);""")
    kafka.create_topic('typed', 2)
    full = {'id': 1, 't': 'café 😀 \\ "', 'v': 'abcde', 'u': '6f1ed002-ab5a-42a8-8a6f-3f1c9b2b7a11', 'i2': -5, 'i4': 21, 'n': 12.345,
            'f4': 0.1, 'f8': 1e-300, 'b': True, 'ts': '2026-11-21T06:00:00.5+01:00', 'd': '2026-11-21', 'by': base64.b64encode(b'\x00\xffbytes').decode(),
            'j': {'a': [1, {'b': None}]}, 'af4': [1, None, 2.5], 'af8': [0.1, 2], 'ai': [1, 2], 'at': ['x', None, 'y"'],
            'au': ['6f1ed002-ab5a-42a8-8a6f-3f1c9b2b7a11'], 'm': 'happy', 'p': 3, 'given': None, 'seq': 99, 'twice': 99, 'nobody': [1]}
    kafka.produce('typed', [(0, b'the key', json.dumps(full).encode()), (1, None, b'{"id": 2, "ts": "yesterday", "i4": "8", "f8": "NaN", "at": []}'),
                            (0, None, None)])
    create(c, 'typed', 'typed', 'typed')
    caught_up(c, 'typed', 3)
    tap.same(c.psql("SELECT t, v, u, i2, i4, n, f4, f8, b, ts AT TIME ZONE 'UTC', d, by, j, af4, af8, ai, at, au, m, p, given, twice, source, source_topic, "
                    "source_partition, source_offset, source_key, source_time > now() - interval '1 hour' FROM typed WHERE id = 1"),
             [('café 😀 \\ "', 'abcde', '6f1ed002-ab5a-42a8-8a6f-3f1c9b2b7a11', '-5', '21', '12.35', '0.1', '1e-300', 't', '2026-11-21 05:00:00.5',
               '2026-11-21', '\\x00ff6279746573', '{"a": [1, {"b": null}]}', '{1,NULL,2.5}', '{0.1,2}', '{1,2}', '{x,NULL,"y\\""}',
               '{6f1ed002-ab5a-42a8-8a6f-3f1c9b2b7a11}', 'happy', '3', None, '42', 'typed', 'typed', '0', '0', 'the key', 't')], 'every type, and where it came from')
    tap.same(c.psql("SELECT i4, f8, at, given, ts = 'yesterday', source_key FROM typed WHERE id = 2"), [('8', 'NaN', '{}', '7', 't', None)],
             "defaults, and what input functions understand")
    tap.same(c.psql("SELECT sum(rows), sum(skipped), sum(dead) FROM millrace.source_offsets WHERE source = 'typed'"), [('2', '1', '0')], 'a tombstone is passed over and counted')


def mapping(c, kafka):
    c.psql("SET ROLE app; CREATE TABLE mapped (id text PRIMARY KEY, content text, offs bigint);")
    kafka.create_topic('mapped')
    kafka.produce('mapped', [(0, b'k', b'{"key": "a", "body": {"x": 1}}', [('h', b'v'), ('h', None), ('raw', b'\xff')]), (0, None, b'{"key": "b", "other": 1}'), (0, None, None)])
    create(c, 'mapped', 'mapped', 'mapped', '{"columns": {"key": "id", "body": "content"}, "unknown_keys": "refuse", "tombstones": "dead_letter"}')
    caught_up(c, 'mapped', 3)
    tap.same(c.psql('SELECT * FROM mapped'), [('a', '{"x": 1}', None)], 'option columns; JSON into text')
    tap.same(c.psql("SELECT \"offset\", sqlstate, error, value FROM millrace.dead_letters WHERE source = 'mapped' ORDER BY id"),
             [('1', '22023', 'key "other" is no column of the target', '\\x' + b'{"key": "b", "other": 1}'.hex()), ('2', '22004', 'the message has no value (a tombstone)', None)],
             'unknown_keys and tombstones')


GOOD = {'id': 0, 'u': '6f1ed002-ab5a-42a8-8a6f-3f1c9b2b7a11', 'v': 'ok', 'n': 1, 'f': [1.5, 2.5]}


def poison(kind, i):
    """Poison of one kind, with this id where it can have one, and the SQLSTATE it must get."""
    def with_(**k):
        return json.dumps({**GOOD, 'id': i, **k}).encode()
    kinds = [
        (b'not json', '22P02'), (b'', '22P02'), (b'\x00\x01\x02', '22021'), (b'{"id": %d, "v": "\xff"}' % i, '22021'), (b'{"id": %d, "v": "\\u0000"}' % i, '22P05'),
        (b'[' * 3000, '22P02'), (b'{"id": %d, "x": %s}' % (i, b'[' * 3000), '54001'), (with_()[:-5], '22P02'), (with_(id=2 ** 70), '22003'), (with_(f=[1, 'x']), '22P02'),
        (with_(u='no uuid'), '22P02'), (with_(v='longer than ten'), '22001'), (with_(id=None), '23502'), (with_(n=-1), '23514'), (with_(n=13), 'P0001'),
        (with_(id=-7), '23505'), (with_(n=99), '22012'), (with_(n=1e20), '22003'), (with_(n=55), '23503'), (with_(big='x' * 300000), '54000'),
        (with_(n=77), '23514')]
    return kinds[kind % len(kinds)]


def poisons(c, kafka):
    c.psql("""SET ROLE app;
        CREATE TABLE strict (id bigint PRIMARY KEY, u uuid, v varchar(10), n numeric(10,2) CHECK (n > 0), f real[], source_partition int, source_offset bigint);
        CREATE TABLE fifty (n numeric PRIMARY KEY);
        INSERT INTO fifty SELECT generate_series(1, 100) EXCEPT SELECT 55;
        ALTER TABLE strict ADD FOREIGN KEY (n) REFERENCES fifty DEFERRABLE INITIALLY DEFERRED;
        CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.n = 13 THEN RAISE EXCEPTION 'thirteen'; END IF;
            IF new.n = 99 THEN new.n := 1 / 0; END IF;
            RETURN new; END $$;
        CREATE TRIGGER picky BEFORE INSERT ON strict FOR EACH ROW EXECUTE FUNCTION picky();
        CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF new.n = 77 THEN RAISE check_violation USING MESSAGE = 'late'; END IF; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON strict DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late();
        INSERT INTO strict VALUES (-7);""")
    kafka.create_topic('strict', 3)
    messages, planted, good = [], {}, set()
    count = [0, 0, 0]
    for i in range(12000):
        p = i * 7 % 3
        if i % 97 == 5:
            value, state = poison(i // 97, i)
            planted[(p, count[p])] = (value, state)
        else:
            value = json.dumps({**GOOD, 'id': i}).encode()
            good.add(str(i))
        count[p] += 1
        messages.append((p, b'key-%d' % i, value, [('n', b'%d' % i)]))
    kafka.produce('strict', messages)
    t = time.monotonic()
    create(c, 'strict', 'strict', 'strict', '{"max_message_bytes": 100000}')
    caught_up(c, 'strict', len(messages), 180)
    tap.note('12,000 messages with %d poison ones took %.1f s' % (len(planted), time.monotonic() - t))
    got = {(int(p), int(o)): (bytes.fromhex(v[2:]) if v is not None else None, s) for p, o, v, s in
           c.psql("SELECT partition, \"offset\", value, sqlstate FROM millrace.dead_letters WHERE source = 'strict'")}
    tap.same(len(got), int(c.value("SELECT count(*) FROM millrace.dead_letters WHERE source = 'strict'")), 'no message is dead twice')
    tap.same(set(got), set(planted), 'exactly the planted messages are dead letters')
    wrong = [(k, planted[k], got[k]) for k in planted if k in got and (got[k][1] != planted[k][1] or got[k][0] not in (planted[k][0], None))]
    tap.same(wrong[:3], [], 'with their SQLSTATE and bytes')
    tap.same(sum(v[0] is None for v in got.values()), sum(s == '54000' for _, s in planted.values()), 'but those that are too large are not kept')
    tap.same({r[0] for r in c.psql('SELECT id FROM strict WHERE id >= 0')}, good, 'every other message is a row')
    tap.same(c.psql("SELECT convert_from(key, 'UTF8') = 'key-' || (headers -> 0 ->> 'value'), headers -> 0 ->> 'key', ts > now() - interval '1 hour', error, detail LIKE '%picky%' "
                    "FROM millrace.dead_letters WHERE source = 'strict' AND sqlstate = 'P0001' LIMIT 1"), [('t', 'n', 't', 'thirteen', 't')], 'key, headers, time, error and where it arose')
    tap.same(c.psql("SELECT sum(rows), sum(dead) FROM millrace.source_offsets WHERE source = 'strict'"), [(str(len(good)), str(len(planted)))], 'the counters agree')
    tap.same(c.value("SELECT state FROM millrace.sources WHERE name = 'strict'"), 'running', 'one percent of poison halts nothing')


def restarts(c, kafka):
    c.psql("SET ROLE app; CREATE TABLE life (id int, source_partition int, source_offset bigint, PRIMARY KEY (source_partition, source_offset));")
    kafka.create_topic('life', 4)
    create(c, 'life', 'life', 'life', '{"workers": 2}')
    producer, sent = kafka.producer(), 0

    def send(n):
        nonlocal sent
        kafka.produce('life', [(i % 4, None, b'{"id": %d}' % i) for i in range(sent, sent + n)], producer)
        sent += n
    send(1000)
    caught_up(c, 'life', sent)
    tap.same(len(worker_pids(c, 'life')), 2, 'two workers share four partitions')
    tap.same(c.psql("SELECT count(DISTINCT owner_pid), count(*) FROM millrace.source_offsets WHERE source = 'life'"), [('2', '4')], 'each partition has one')
    for _ in range(3):
        pids = worker_pids(c, 'life')
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
        send(1000)
        took = gone(c, pids)
        caught_up(c, 'life', sent)
    tap.ok(took < 5, 'a worker ends within 5 s of SIGTERM (%.1f s)' % took)
    c.psql("SELECT millrace.pause_source('life')")
    before = c.value('SELECT count(*) FROM life')
    send(1000)
    gone(c, worker_pids(c, 'life'))
    tap.same(c.value('SELECT count(*) FROM life'), before, 'nothing arrives after pause_source')
    c.psql("SELECT millrace.resume_source('life')")
    caught_up(c, 'life', sent)
    tap.same(c.psql('SELECT count(*), count(DISTINCT id), min(id), max(id) FROM life'), [(str(sent), str(sent), '0', str(sent - 1))], 'every message once')
    pids = worker_pids(c, 'life')
    c.psql("SELECT millrace.drop_source('life')")
    tap.ok(gone(c, pids) < 5, 'drop_source ends its workers')


def latency(c, kafka):
    c.psql("SET ROLE app; CREATE TABLE slow (sent double precision, seen timestamptz DEFAULT clock_timestamp());")
    kafka.create_topic('slow')
    create(c, 'slow', 'slow', 'slow')
    producer = kafka.producer(**{'linger.ms': 0})
    kafka.produce('slow', [(0, None, b'{"sent": 0}')], producer)
    caught_up(c, 'slow', 1)
    for i in range(300):
        producer.produce('slow', b'{"sent": %.6f}' % time.time())
        producer.poll(0.01)
    producer.flush()
    caught_up(c, 'slow', 301)
    ms = sorted(float(r[0]) for r in c.psql('SELECT (extract(epoch FROM seen) - sent) * 1000 FROM slow WHERE sent > 0'))
    tap.note('latency at 100 messages/s: p50 %.1f ms, p99 %.1f ms' % (statistics.median(ms), ms[int(len(ms) * 0.99)]))
    tap.ok(statistics.median(ms) < 100, 'a message is inserted within 100 ms of being sent (median)')


def group(c, kafka):
    """Offsets of a consumer group follow the source, for those who watch groups."""
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
    from confluent_kafka.admin import AdminClient
    c.psql('SET ROLE app; CREATE TABLE watched (id int);')
    kafka.create_topic('watched', 3)
    create(c, 'watched', 'watched', 'watched', '{"group": "dashboards"}')
    admin = AdminClient({'bootstrap.servers': kafka.bootstrap})

    def offsets():
        wanted = ConsumerGroupTopicPartitions('dashboards', [TopicPartition('watched', p) for p in range(3)])
        return [t.offset for t in admin.list_consumer_group_offsets([wanted])['dashboards'].result().topic_partitions]

    for n in (30, 60):
        kafka.produce('watched', [(i % 3, None, b'{"id": %d}' % i) for i in range(30)])
        caught_up(c, 'watched', n)
        end = time.monotonic() + 30
        while offsets() != [n // 3] * 3 and time.monotonic() < end:
            time.sleep(0.5)
        tap.same(offsets(), [n // 3] * 3, 'the group is told of %d messages' % n)
    c.psql("SELECT millrace.drop_source('watched')")


def main():
    run('stream_basic', (types, mapping, poisons, restarts, latency, group))


if __name__ == '__main__':
    main()
