"""Avro in Confluent's wire format, written by fastavro: every type into columns, schemas that come late, poison."""
# timeout: 600
import datetime
import decimal
import io
import json
import os
import struct
import sys
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import caught_up, create, literal, reason, run

import fastavro

SCHEMA = {
    'type': 'record', 'name': 'Order', 'namespace': 'shop', 'fields': [
        {'name': 'id', 'type': 'long'},
        {'name': 'name', 'type': ['null', 'string'], 'default': None},
        {'name': 'small', 'type': 'int'},
        {'name': 'ratio', 'type': 'float'},
        {'name': 'exact', 'type': 'double'},
        {'name': 'ok', 'type': 'boolean'},
        {'name': 'raw', 'type': 'bytes'},
        {'name': 'price', 'type': {'type': 'bytes', 'logicalType': 'decimal', 'precision': 38, 'scale': 4}},
        {'name': 'day', 'type': {'type': 'int', 'logicalType': 'date'}},
        {'name': 'clock', 'type': {'type': 'long', 'logicalType': 'time-micros'}},
        {'name': 'ms', 'type': {'type': 'long', 'logicalType': 'timestamp-millis'}},
        {'name': 'us', 'type': {'type': 'long', 'logicalType': 'timestamp-micros'}},
        {'name': 'uid', 'type': {'type': 'string', 'logicalType': 'uuid'}},
        {'name': 'colour', 'type': {'type': 'enum', 'name': 'Colour', 'symbols': ['RED', 'GREEN']}},
        {'name': 'floats', 'type': {'type': 'array', 'items': 'float'}},
        {'name': 'words', 'type': {'type': 'array', 'items': ['null', 'string']}},
        {'name': 'counts', 'type': {'type': 'map', 'values': 'long'}},
        {'name': 'address', 'type': ['null', {'type': 'record', 'name': 'Address', 'fields': [
            {'name': 'street', 'type': 'string'}, {'name': 'next', 'type': ['null', 'Address']}, {'name': 'due', 'type': {'type': 'int', 'logicalType': 'date'}}]}]},
        {'name': 'either', 'type': ['null', 'long', 'string']},
        {'name': 'nobody', 'type': {'type': 'array', 'items': 'Address'}},
        {'name': 'hash', 'type': {'type': 'fixed', 'name': 'Md5', 'size': 4}},
    ]}


def framed(schema, id, record):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record)
    return b'\0' + struct.pack('>I', id) + out.getvalue()


def add(c, id, schema, server='k'):
    c.psql(f"SELECT millrace.add_avro_schema('{server}', {id}, {literal(json.dumps(schema))})")


def record(i):
    utc = datetime.timezone.utc
    return {'id': 2 ** 62 - i, 'name': None if i % 3 == 0 else 'Wört "%d"\\' % i, 'small': -i, 'ratio': 0.1 * i, 'exact': 1 / (i + 3), 'ok': i % 2 == 0, 'raw': bytes([0, 255, i % 256]),
            'price': decimal.Decimal('-12345678901234567890.1234') * (i - 5), 'day': datetime.date(1969, 12, 31) + datetime.timedelta(days=i * 31),
            'clock': datetime.time(23, 59, 59, 999000 + i), 'ms': datetime.datetime(1969, 7, 20, 20, 17, 40, 123000, utc) + datetime.timedelta(hours=i),
            'us': datetime.datetime(2026, 11, 21, 1, 2, 3, 456789, utc) + datetime.timedelta(days=i), 'uid': uuid.UUID(int=i * 2 ** 100 + i), 'colour': ['RED', 'GREEN'][i % 2],
            'floats': [0.5 * k for k in range(i % 40)], 'words': [None, 'a,b', '"'][:i % 4], 'counts': {'k%d' % k: k for k in range(i % 5)},
            'address': None if i % 4 == 0 else {'street': 'X', 'next': {'street': 'Y"', 'next': None, 'due': datetime.date(2026, 1, 1)}, 'due': datetime.date(2020, 2, 29)},
            'either': [None, 17, 'seventeen'][i % 3], 'nobody': [{'street': 'Z', 'next': None, 'due': datetime.date(1970, 1, 1)}] * (i % 3), 'hash': b'abcd'}


def types(c, kafka):
    c.psql("SET ROLE app; CREATE TYPE colour AS ENUM ('RED', 'GREEN'); "
           "CREATE TABLE orders (id bigint PRIMARY KEY, name text, small smallint, ratio real, exact double precision, ok boolean, raw bytea, price numeric, day date, clock time, "
           "ms timestamptz, us timestamp, uid uuid, colour colour, floats real[], words text[], counts jsonb, address jsonb, either text, hash bytea, extra int DEFAULT 5, source_offset bigint)")
    add(c, 7, SCHEMA)
    kafka.create_topic('orders', 1)
    n = 500
    parsed = fastavro.parse_schema(SCHEMA)
    kafka.produce('orders', [(0, None, framed(parsed, 7, record(i))) for i in range(n)])
    create(c, 'orders', 'orders', 'orders', '{"format": "avro"}')
    caught_up(c, 'orders', n)
    got = c.psql("SELECT id, name, small, ratio, exact, ok, raw, price, day, clock, ms AT TIME ZONE 'UTC', us, uid, colour, floats::float8[]::text, to_json(words)::text, counts::text, "
                 "address::text, either, hash, extra FROM orders ORDER BY source_offset")
    wrong = []
    for i, g in enumerate(got):
        r = record(i)
        f32 = [struct.unpack('f', struct.pack('f', x))[0] for x in r['floats']]
        address = r['address'] and {'street': 'X', 'next': {'street': 'Y"', 'next': None, 'due': '2026-01-01'}, 'due': '2020-02-29'}
        checks = [g[0] == str(r['id']), g[1] == r['name'], g[2] == str(r['small']), abs(float(g[3]) - r['ratio']) <= 1e-6 * abs(r['ratio']), float(g[4]) == r['exact'], (g[5] == 't') == r['ok'],
                  g[6] == '\\x' + r['raw'].hex(), decimal.Decimal(g[7]) == r['price'], g[8] == r['day'].isoformat(), datetime.time.fromisoformat(g[9].ljust(15, '0')) == r['clock'],
                  datetime.datetime.fromisoformat(g[10].ljust(26, '0')) == r['ms'].replace(tzinfo=None), datetime.datetime.fromisoformat(g[11].ljust(26, '0')) == r['us'].replace(tzinfo=None),
                  g[12] == str(r['uid']), g[13] == r['colour'], [float(x) for x in g[14].strip('{}').split(',') if x] == f32, json.loads(g[15]) == r['words'], json.loads(g[16]) == r['counts'],
                  (json.loads(g[17]) if g[17] else None) == address, g[18] == (None if r['either'] is None else str(r['either'])), g[19] == '\\x61626364', g[20] == '5']
        wrong += [(i, k, g[k], list(r.values())[k]) for k, good in enumerate(checks) if not good]
    tap.same((len(got), wrong[:3]), (n, []), '500 records of every type, as fastavro wrote them')


def late(c, kafka):
    """A schema that is not there yet is waited for; a newer version of it fills a new column."""
    one = {'type': 'record', 'name': 'v', 'fields': [{'name': 'id', 'type': 'int'}]}
    two = {'type': 'record', 'name': 'v', 'fields': [{'name': 'id', 'type': 'int'}, {'name': 'note', 'type': 'string'}]}
    c.psql('SET ROLE app; CREATE TABLE late (id int PRIMARY KEY, note text)')
    kafka.create_topic('late', 2)
    kafka.produce('late', [(i % 2, None, framed(one, 1000, {'id': i})) for i in range(100)])
    create(c, 'late', 'late', 'late', '{"format": "avro"}')
    reason(c, 'late', 'schema 1000 is not known')
    tap.same(c.psql("SELECT (SELECT count(*) FROM late), (SELECT count(*) FROM millrace.dead_letters WHERE source = 'late'), (SELECT sqlstate FROM millrace.source_workers WHERE source = 'late')"),
             [('0', '0', '42704')], 'an unknown schema is waited for, and no message blamed')
    add(c, 1000, one)
    caught_up(c, 'late', 100)
    kafka.produce('late', [(i % 2, None, framed(two, 1001, {'id': i, 'note': 'n%d' % i})) for i in range(100, 150)])
    reason(c, 'late', 'schema 1001 is not known')
    add(c, 1001, two)
    caught_up(c, 'late', 150)
    tap.same(c.psql('SELECT count(*), count(DISTINCT id), count(note), max(note) FROM late'), [('150', '150', '50', 'n149')], 'and read once it is there, each message once')
    add(c, 1001, two)
    for what, sql in (('another schema for an id', "SELECT millrace.add_avro_schema('k', 1001, '\"int\"')"), ('a schema that is none', "SELECT millrace.add_avro_schema('k', 1002, '{\"type\": \"thing\"}')"),
                      ('a server that is not there', "SELECT millrace.add_avro_schema('x', 1, '\"int\"')"), ('an id out of range', "SELECT millrace.add_avro_schema('k', -1, '\"int\"')"),
                      ('a role without the right', "SET ROLE app; SELECT millrace.add_avro_schema('k', 1003, '\"int\"')")):
        try:
            c.psql(sql)
            tap.ok(False, what + ' is refused')
        except Exception as e:
            tap.ok('ERROR' in str(e), what + ' is refused')


def poison(c, kafka):
    schema = {'type': 'record', 'name': 'p', 'fields': [{'name': 'id', 'type': 'int'}, {'name': 's', 'type': 'string'}]}
    add(c, 50, schema)
    add(c, 51, 'string')
    c.psql('SET ROLE app; CREATE TABLE poison (id int, s varchar(5), value text)')
    kafka.create_topic('poison')
    good = framed(schema, 50, {'id': 1, 's': 'x'})
    kafka.produce('poison', [(0, None, good), (0, None, b''), (0, None, b'{"id": 1}'), (0, None, good[:-1]), (0, None, good + b'x'), (0, None, good[:5] + b'\xff' * 12),
                             (0, None, good[:6] + b'\x41'), (0, None, framed(schema, 50, {'id': 2, 's': 'too long'})), (0, None, good[:6] + b'\x02\xff'), (0, None, framed('string', 51, 'alone')),
                             (0, None, b'\0\0'), (0, None, framed(schema, 50, {'id': 3, 's': ''}))])
    create(c, 'poison', 'poison', 'poison', '{"format": "avro", "max_dead_percent": 100}')
    caught_up(c, 'poison', 12)
    tap.same(c.psql("SELECT \"offset\", sqlstate FROM millrace.dead_letters WHERE source = 'poison' ORDER BY 1"),
             [('1', '22P02'), ('2', '22P02'), ('3', '22P02'), ('4', '22P02'), ('5', '22P02'), ('6', '22P02'), ('7', '22001'), ('8', '22021'), ('10', '22P02')], 'damaged messages are dead letters')
    tap.same(c.psql('SELECT * FROM poison ORDER BY id'), [('1', 'x', None), ('3', '', None), (None, None, 'alone')], 'the others are rows; a schema that is no record is a value')


def main():
    run('stream_avro', (types, late, poison))


if __name__ == '__main__':
    main()
