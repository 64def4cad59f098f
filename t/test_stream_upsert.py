"""Keyed upserts and deletes: what a topic leaves in a table is what its messages leave one by one, in order, per key,
however they fall into batches; keys and headers as columns."""
# timeout: 600
import json
import os
import random
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import SqlError
from lib.stream import caught_up, create, reason, run, worker_pids

PARTITIONS = 3


def history(seed, n, keys):
    """Random puts and deletes: [(key, version or None)]; and what update and nothing leave of them."""
    r = random.Random(seed)
    ops, last, first = [], {}, {}
    for i in range(n):
        k = r.randrange(keys)
        if r.random() < 0.3:
            ops.append((k, None))
            last.pop(k, None)
            first.pop(k, None)
        else:
            ops.append((k, i))
            last[k] = i
            first.setdefault(k, i)
    return ops, last, first


def again(condition, timeout=60):
    """Until it holds; the server may be away meanwhile."""
    end = time.monotonic() + timeout
    while True:
        try:
            if condition():
                return
        except SqlError:
            pass
        assert time.monotonic() < end, 'the server did not come back'
        time.sleep(0.05)


def ordered(c, kafka):
    """The same random history into tables of every option, from a backlog and in small pieces, with workers killed in between."""
    n = 6000
    ops, last, first = history(11, n, 200)
    kafka.create_topic('ops', PARTITIONS)
    messages = [(k % PARTITIONS, b'k%d' % k, None if v is None else b'{"v": %d, "odd": %s}' % (v, b'null' if v % 3 == 0 else b'%d' % (v % 2))) for k, v in ops]
    half = n // 2
    kafka.produce('ops', messages[:half])
    tables = {'up': ('update', {}, last), 'first': ('nothing', {}, first), 'small': ('update', {'batch_rows': 7}, last), 'two': ('update', {'workers': 2}, last), 'few': ('nothing', {'batch_rows': 5}, first)}
    for t, (conflict, extra, _) in tables.items():
        c.psql(f"SET ROLE app; CREATE TABLE {t} (id text PRIMARY KEY, v int, odd int DEFAULT 9, kept int DEFAULT 5, source_offset bigint)")
        create(c, t, 'ops', t, json.dumps({'on_conflict': conflict, 'tombstones': 'delete', **extra}))
    for t in tables:
        caught_up(c, t, half)
    r = random.Random(5)
    kills = 0
    for i in range(half, n, 300):
        kafka.produce('ops', messages[i:i + 300])
        if i % 900 == 0:        # the server restarts, at whatever the five sources are in the middle of
            time.sleep(r.random() * 0.1)
            mark = c.log_mark()
            os.kill(r.choice([pid for t in tables for pid in worker_pids(c, t)]), signal.SIGKILL)
            kills += 1
            again(lambda: 'terminated by signal 9' in c.logs_since(mark))
            again(lambda: sum(len(worker_pids(c, t)) for t in tables) == 6)
    tap.ok(kills >= 3, '%d workers were killed in between' % kills)
    for t, (conflict, _, model) in tables.items():
        caught_up(c, t, n)
        expected = {('k%d' % k, str(v), None if v % 3 == 0 else str(v % 2), '5') for k, v in model.items()}
        got = c.psql(f'SELECT id, v, odd, kept FROM {t}')
        tap.same((len(got), set(got) ^ expected), (len(model), set()), f'{t}: {conflict} and deletes leave what the messages one by one leave')
        tap.same(c.psql(f"SELECT sum(rows), sum(deleted), sum(dead), sum(skipped) FROM millrace.source_offsets WHERE source = '{t}'"),
                 [(str(sum(v is not None for _, v in ops)), str(sum(v is None for _, v in ops)), '0', '0')], f'{t}: counted')


def keys(c, kafka):
    """Keys of JSON with two columns, of text that is a number, of bytes, of any format; and of the value."""
    c.psql("SET ROLE app; CREATE DOMAIN area AS text CHECK (VALUE <> 'nowhere'); CREATE TABLE composite (a area, b int, v text, PRIMARY KEY (b, a)); "
           "CREATE TABLE numbered (id bigint PRIMARY KEY, value text); CREATE TABLE raw (id bytea PRIMARY KEY, value bytea); "
           "CREATE TABLE own (id int PRIMARY KEY, n int DEFAULT 1, note text)")
    for t in ('composite', 'numbered', 'raw', 'own'):
        kafka.create_topic(t)
    key = b'{"b": %d, "area": "%s"}'
    kafka.produce('composite', [(0, key % (1, b'x'), b'{"v": "one"}'), (0, key % (2, b'x'), b'{"v": "two", "b": 77}'), (0, key % (1, b'x'), b'{"v": "three"}'), (0, key % (2, b'x'), None),
                                (0, key % (3, b'nowhere'), b'{"v": "no"}'), (0, b'{"b": 4}', b'{"v": "no"}'), (0, b'x', b'{}'), (0, None, b'{}'), (0, b'{"b": "x", "area": "y"}', None),
                                (0, key % (5, b'y'), b'{"v": 5}'), (0, b'[]', None)])
    create(c, 'composite', 'composite', 'composite', '{"on_conflict": "update", "tombstones": "delete", "key_format": "json", "columns": {"area": "a"}, "max_dead_percent": 100}')
    caught_up(c, 'composite', 11)
    tap.same(c.psql('SELECT * FROM composite ORDER BY b'), [('x', '1', 'three'), ('y', '5', '5')], 'a primary key of two columns out of a JSON key')
    tap.same(c.psql("SELECT \"offset\", sqlstate FROM millrace.dead_letters WHERE source = 'composite' ORDER BY 1"),
             [('4', '23514'), ('5', '23502'), ('6', '22P02'), ('7', '23502'), ('8', '22P02'), ('10', '22P02')], 'keys that are none are dead letters, tombstones too')
    kafka.produce('numbered', [(0, b'1', b'a'), (0, b'2', b'b'), (0, b'1', b'c'), (0, b'2', None), (0, b'x', b'd'), (0, b'3', b'')])
    create(c, 'numbered', 'numbered', 'numbered', '{"format": "text", "on_conflict": "update", "tombstones": "delete"}')
    kafka.produce('raw', [(0, b'\xff\x00', b'\x00'), (0, b'', b'\x01'), (0, b'\xff\x00', b'\x02')])
    create(c, 'raw', 'raw', 'raw', '{"format": "bytes", "key_format": "bytes", "on_conflict": "nothing"}')
    kafka.produce('own', [(0, None, b'{"id": 1, "note": "a", "n": 5}'), (0, None, b'{"id": 1, "note": "b"}'), (0, None, b'{"id": 2}'), (0, None, None)])
    create(c, 'own', 'own', 'own', '{"on_conflict": "update"}')
    for t, n in (('numbered', 6), ('raw', 3), ('own', 4)):
        caught_up(c, t, n)
    tap.same(c.psql('SELECT * FROM numbered ORDER BY 1'), [('1', 'c'), ('3', '')], 'text keys and values: the table is the compacted topic')
    tap.same(c.psql('SELECT * FROM raw ORDER BY 1'), [('\\x', '\\x01'), ('\\xff00', '\\x00')], 'bytes; of equal keys the first stays')
    tap.same(c.psql('SELECT * FROM own ORDER BY 1'), [('1', '1', 'b'), ('2', '1', None)], "a key in the value; a row is what its last message says, defaults for what it does not")

    c.psql('SET ROLE app; CREATE TABLE keyless (id int); CREATE TABLE unfilled (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int)')
    for what, sql in (('no primary key', "'keyless'::regclass, '{\"on_conflict\": \"update\", \"owner\": \"app\"}'"), ('tombstones without on_conflict', "'own'::regclass, '{\"tombstones\": \"delete\", \"owner\": \"app\"}'"),
                      ('an unknown property', "'own'::regclass, '{\"columns\": {\"$thing\": \"note\"}, \"owner\": \"app\"}'")):
        try:
            c.psql(f"SELECT millrace.create_source('no', 'k', 'own', {sql})")
            tap.ok(False, what + ' is refused')
        except Exception as e:
            tap.ok('ERROR' in str(e), what + ' is refused')
    create(c, 'unfilled', 'own', 'unfilled', '{"on_conflict": "update"}')
    reason(c, 'unfilled', 'do not fill the primary key')
    c.psql("SELECT millrace.drop_source('unfilled')")
    c.psql('ALTER TABLE own OWNER TO postgres; GRANT INSERT ON own TO app')
    kafka.produce('own', [(0, None, b'{"id": 3}')])
    reason(c, 'own', 'permission denied')
    c.psql('GRANT SELECT, UPDATE ON own TO app')
    caught_up(c, 'own', 5)
    tap.same(c.value('SELECT count(*) FROM own'), '3', 'the right to update is waited for')


def columns(c, kafka):
    c.psql("SET ROLE app; CREATE TABLE props (id int PRIMARY KEY, source_headers jsonb, h text[], at timestamptz, k bytea, place text, p smallint, src text, note text)")
    kafka.create_topic('props')
    kafka.produce('props', [(0, b'\xff', b'{"id": 1, "$key": "text"}', [('a', b'x'), ('b', None), ('a', b'\xff\x01'), ('c', 'Wört'.encode())]), (0, None, b'{"id": 2}'), (0, b'', b'{"id": 3}', [('a', b'')])])
    create(c, 'props', 'props', 'props', '{"columns": {"$headers": "h", "$time": "at", "$key": "k", "$offset": "place", "$partition": "p", "$source": "src"}}')
    caught_up(c, 'props', 3)
    tap.same(c.psql("SELECT id, source_headers::text, to_json(h)::text, at > now() - interval '1 hour', k, place, p, src FROM props ORDER BY id"),
             [('1', '[{"key": "a", "value": "x"}, {"key": "b", "value": null}, {"hex": "ff01", "key": "a"}, {"key": "c", "value": "Wört"}]', '["a","x","b",null,"a","\\\\xff01","c","Wört"]', 't', '\\xff', '0', '0', 'props'),
              ('2', '[]', '[]', 't', None, '1', '0', 'props'), ('3', '[{"key": "a", "value": ""}]', '["a",""]', 't', '\\x', '2', '0', 'props')],
             'headers, time, key, offset, partition and source in columns of any name')


def main():
    run('stream_upsert', (ordered, keys, columns), {'restart_after_crash': 'on'}, killed=True)


if __name__ == '__main__':
    main()
