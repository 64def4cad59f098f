"""Schemas from a schema registry: written by confluent-kafka's AvroSerializer into a stub, fetched by the worker;
registries that are slow, away, wrong or not to be reached, and what they answer: nothing is lost, and no session waits."""
# timeout: 600
import http.server
import json
import os
import struct
import sys
import threading
import time
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import caught_up, create, literal, reason, run

SECRET = 'kanarienvogel-23'


class Registry:
    """The part of Confluent's registry that a serializer and we use; mode says how it misbehaves."""

    def __init__(self):
        self.schemas, self.references, self.subjects, self.mode, self.asked, self.seen = {}, {}, {}, 'good', [], []
        stub = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, status, body, raw=False):
                data = body if raw else json.dumps(body).encode()
                self.send_response(status)
                if status == 302:
                    self.send_header('Location', 'http://127.0.0.1:%d/elsewhere' % stub.port)
                self.send_header('Content-Type', 'application/vnd.schemaregistry.v1+json')
                self.send_header('Content-Length', str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
                subject = urllib.parse.unquote(self.path.split('/')[2])
                schema = asked['schema']
                id = next((i for i, s in stub.schemas.items() if s == schema), None) or 100000 + len(stub.schemas)
                stub.schemas[id] = schema
                stub.references[id] = asked.get('references') or []
                versions = stub.subjects.setdefault(subject, [])
                if id not in versions:
                    versions.append(id)
                self.answer(200, {'id': id, 'subject': subject, 'version': versions.index(id) + 1, 'schema': schema, 'references': stub.references[id]})

            def do_GET(self):
                parts = self.path.split('?')[0].split('/')
                if parts[1] == 'subjects' and parts[3:4] == ['versions']:
                    subject, version = urllib.parse.unquote(parts[2]), int(parts[4])
                    versions = stub.subjects.get(subject, [])
                    if 0 < version <= len(versions):
                        id = versions[version - 1]
                        self.answer(200, {'id': id, 'subject': subject, 'version': version, 'schema': stub.schemas[id], 'references': stub.references[id]})
                        return
                if not self.path.startswith('/schemas/ids/'):
                    self.answer(404, {'error_code': 40401, 'message': 'no such thing'})
                    return
                id = int(self.path.rsplit('/', 1)[1].split('?')[0])
                stub.asked.append(id)
                stub.seen.append(self.headers.get('Authorization'))
                if stub.mode == 'slow':
                    time.sleep(30)
                elif stub.mode == 'broken':
                    self.answer(500, {'error_code': 50001, 'message': 'store is away'})
                elif stub.mode == 'no json':
                    self.answer(200, b'<html>' + b'\xff' * 100, raw=True)
                elif stub.mode == 'large':
                    self.answer(200, b'"' + b'x' * 5000000 + b'"', raw=True)
                elif stub.mode == 'redirect':
                    self.answer(302, {})
                elif stub.mode == 'references':
                    self.answer(200, {'schema': stub.schemas[id], 'references': [{'name': 'x', 'subject': 'y', 'version': 1}]})
                elif stub.mode == 'protobuf':
                    self.answer(200, {'schema': 'syntax = "proto3";', 'schemaType': 'PROTOBUF'})
                elif stub.mode == 'invalid':
                    self.answer(200, {'schema': '{"type": "thing"}'})
                elif id not in stub.schemas:
                    self.answer(404, {'error_code': 40403, 'message': 'Schema not found'})
                else:
                    self.answer(200, {'schema': stub.schemas[id], **({'references': stub.references[id]} if stub.references.get(id) else {})})

            def log_message(self, *args):
                pass
        self.server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return 'http://127.0.0.1:%d' % self.port


def serialized(registry, topic, schema, records):
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroSerializer
    from confluent_kafka.serialization import MessageField, SerializationContext
    serializer = AvroSerializer(SchemaRegistryClient({'url': registry.url}), json.dumps(schema) if isinstance(schema, dict) else schema)
    return [serializer(r, SerializationContext(topic, MessageField.VALUE)) for r in records]


ONE = {'type': 'record', 'name': 'one', 'fields': [{'name': 'id', 'type': 'int'}, {'name': 'tags', 'type': {'type': 'map', 'values': 'string'}}]}


def fetched(c, kafka, registry):
    c.psql('SET ROLE app; CREATE TABLE one (id int PRIMARY KEY, tags jsonb)')
    kafka.create_topic('one', 2)
    messages = serialized(registry, 'one', ONE, [{'id': i, 'tags': {'k': str(i)}} for i in range(1000)])
    kafka.produce('one', [(i % 2, None, m) for i, m in enumerate(messages)])
    create(c, 'one', 'one', 'one', '{"format": "avro"}')
    caught_up(c, 'one', 1000)
    tap.same(c.psql("SELECT count(*), sum(id), bool_and(tags ->> 'k' = id::text) FROM one"), [('1000', str(sum(range(1000))), 't')], "what confluent-kafka's AvroSerializer wrote arrives unchanged")
    tap.same((len(registry.asked), registry.seen[0] is not None), (1, True), 'the registry was asked once, by name')
    tap.same(c.psql('SELECT server, schema = %s FROM millrace.avro_schemas' % literal(registry.schemas[100000])), [('k', 't')], 'its schema stands in the table')


POINT = {'type': 'record', 'name': 'Point', 'namespace': 'geo', 'fields': [{'name': 'x', 'type': 'double'}, {'name': 'y', 'type': 'double'}]}
SHAPE = {'type': 'record', 'name': 'Shape', 'namespace': 'geo', 'fields': [{'name': 'corners', 'type': {'type': 'array', 'items': 'geo.Point'}}]}
PLACE = {'type': 'record', 'name': 'Place', 'namespace': 'geo', 'fields': [{'name': 'id', 'type': 'int'}, {'name': 'at', 'type': 'geo.Point'}, {'name': 'shape', 'type': ['null', 'Shape']}]}


def references(c, kafka, registry):
    """Schemas that refer to others, one of these to a third that the first refers to as well."""
    from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
    client = SchemaRegistryClient({'url': registry.url})
    client.register_schema('geo point/ä', Schema(json.dumps(POINT), 'AVRO'))
    point = SchemaReference('geo.Point', 'geo point/ä', 1)
    client.register_schema('shape', Schema(json.dumps(SHAPE), 'AVRO', [point]))
    place = Schema(json.dumps(PLACE), 'AVRO', [SchemaReference('geo.Shape', 'shape', 1), point])
    c.psql('SET ROLE app; CREATE TABLE place (id int PRIMARY KEY, at jsonb, shape jsonb)')
    kafka.create_topic('place')
    records = [{'id': i, 'at': {'x': i / 3, 'y': -i}, 'shape': None if i % 3 == 0 else {'corners': [{'x': k, 'y': 0.5} for k in range(i % 5)]}} for i in range(100)]
    kafka.produce('place', [(0, None, m) for m in serialized(registry, 'place', place, records)])
    create(c, 'place', 'place', 'place', '{"format": "avro"}')
    caught_up(c, 'place', 100)
    tap.same([{'id': int(r[0]), 'at': json.loads(r[1]), 'shape': r[2] and json.loads(r[2])} for r in c.psql('SELECT * FROM place ORDER BY id')], records, 'a schema that refers to others, which are fetched with it')
    # a circle of references, which no registry would take
    id = max(registry.schemas) + 1
    registry.schemas[id] = registry.schemas[id + 1] = '{"type": "record", "name": "c", "fields": [{"name": "id", "type": "int"}]}'
    registry.subjects['circle'] = [id + 1]
    registry.references[id] = registry.references[id + 1] = [{'name': 'c', 'subject': 'circle', 'version': 1}]
    c.psql('SET ROLE app; CREATE TABLE circle (id int PRIMARY KEY)')
    kafka.create_topic('circle')
    kafka.produce('circle', [(0, None, b'\0' + struct.pack('>I', id) + b'\x02')])
    create(c, 'circle', 'circle', 'circle', '{"format": "avro"}')
    caught_up(c, 'circle', 1)
    tap.same(c.psql('SELECT * FROM circle'), [('1',)], 'references in a circle come to an end')


EVERY = {'type': 'record', 'name': 'Every', 'namespace': 'all.types', 'fields': [
    {'name': 'id', 'type': 'long'}, {'name': 'nothing', 'type': 'null'}, {'name': 'flag', 'type': 'boolean'}, {'name': 'i', 'type': 'int'}, {'name': 'f', 'type': 'float'},
    {'name': 'd', 'type': 'double'}, {'name': 'raw', 'type': 'bytes'}, {'name': 's', 'type': 'string'}, {'name': 'maybe', 'type': ['null', 'double'], 'default': None},
    {'name': 'last_null', 'type': ['string', 'null']},
    {'name': 'price', 'type': {'type': 'bytes', 'logicalType': 'decimal', 'precision': 20, 'scale': 6}},
    {'name': 'price_fixed', 'type': {'type': 'fixed', 'name': 'Price', 'size': 8, 'logicalType': 'decimal', 'precision': 18, 'scale': 2}},
    {'name': 'day', 'type': {'type': 'int', 'logicalType': 'date'}},
    {'name': 't_ms', 'type': {'type': 'int', 'logicalType': 'time-millis'}}, {'name': 't_us', 'type': {'type': 'long', 'logicalType': 'time-micros'}},
    {'name': 'ts_ms', 'type': {'type': 'long', 'logicalType': 'timestamp-millis'}}, {'name': 'ts_us', 'type': ['null', {'type': 'long', 'logicalType': 'timestamp-micros'}]},
    {'name': 'local_ms', 'type': {'type': 'long', 'logicalType': 'local-timestamp-millis'}}, {'name': 'local_us', 'type': {'type': 'long', 'logicalType': 'local-timestamp-micros'}},
    {'name': 'uid', 'type': {'type': 'string', 'logicalType': 'uuid'}}, {'name': 'kind', 'type': {'type': 'enum', 'name': 'Kind', 'symbols': ['A', 'B', 'C']}},
    {'name': 'hash', 'type': {'type': 'fixed', 'name': 'Hash', 'size': 16}},
    {'name': 'reals', 'type': {'type': 'array', 'items': 'float'}}, {'name': 'longs', 'type': {'type': 'array', 'items': ['null', 'long']}},
    {'name': 'matrix', 'type': {'type': 'array', 'items': {'type': 'array', 'items': 'int'}}},
    {'name': 'tree', 'type': {'type': 'record', 'name': 'Tree', 'fields': [{'name': 'v', 'type': 'int'}, {'name': 'below', 'type': {'type': 'array', 'items': 'Tree'}}]}},
    {'name': 'by_name', 'type': {'type': 'map', 'values': ['null', 'Tree', 'string']}},
    {'name': 'one_of', 'type': ['null', 'boolean', 'long', 'double', 'string', 'bytes', 'Kind', 'Tree', {'type': 'array', 'items': 'string'}]}]}


def every(i):
    import datetime as dt
    import decimal
    import uuid
    utc, tree = dt.timezone.utc, {'v': i, 'below': [{'v': 1, 'below': []}, {'v': -2, 'below': [{'v': 3, 'below': []}]}]}
    when = dt.datetime(1999, 12, 31, 23, 59, 59, 999000) + dt.timedelta(hours=7 * i)
    return {'id': i, 'nothing': None, 'flag': i % 2 == 0, 'i': (-1) ** i * (2 ** 31 - 1 - i), 'f': i / 7, 'd': (-1) ** i * 10.0 ** (i % 300), 'raw': bytes(range(i % 256)), 's': 'ß€😀' * (i % 4),
            'maybe': None if i % 5 else i / 3, 'last_null': 'x' if i % 2 else None, 'price': decimal.Decimal('-98765432109876.543210') / (i + 1) // decimal.Decimal('0.000001') * decimal.Decimal('0.000001'),
            'price_fixed': decimal.Decimal(i * 12345678 - 10 ** 9) / 100, 'day': dt.date(1900, 1, 1) + dt.timedelta(days=997 * i), 't_ms': dt.time(i % 24, 59, 1, 1000 * i), 't_us': dt.time(0, 0, 0, i),
            'ts_ms': when.replace(tzinfo=utc), 'ts_us': None if i % 3 == 0 else (when + dt.timedelta(microseconds=i)).replace(tzinfo=utc), 'local_ms': when, 'local_us': when + dt.timedelta(microseconds=i),
            'uid': uuid.UUID(int=i << 90), 'kind': 'ABC'[i % 3], 'hash': bytes([i % 256]) * 16, 'reals': [k / 9 for k in range(i % 30)], 'longs': [None, -2 ** 63, 2 ** 63 - 1][:i % 4],
            'matrix': [[1, 2], [], [i]], 'tree': tree, 'by_name': {'a': None, 'b"': tree, 'ü': 'text'},
            'one_of': [None, True, 2 ** 40 + i, i / 7, 'text', b'\x00\xffraw', ('all.types.Kind', 'B'), ('all.types.Tree', tree), ['x', 'y']][i % 9]}


def types(c, kafka, registry):
    """Every type, written by confluent-kafka's AvroSerializer and by fastavro, read again by fastavro: what it says is what the table must hold."""
    import base64
    import datetime as dt
    import decimal
    import io
    import fastavro
    c.psql("SET ROLE app; CREATE TYPE kind AS ENUM ('A', 'B', 'C'); CREATE TABLE every (id bigint PRIMARY KEY, nothing text DEFAULT 'default', flag boolean, i int, f real, d double precision, raw bytea, s text, maybe float8, "
           "last_null text, price numeric, price_fixed numeric(18, 2), day date, t_ms time, t_us time, ts_ms timestamptz, ts_us timestamptz, local_ms timestamp, local_us timestamp, uid uuid, kind kind, hash bytea, "
           "reals real[], longs bigint[], matrix jsonb, tree jsonb, by_name jsonb, one_of jsonb)")
    kafka.create_topic('every', 1)
    n = 400
    theirs = serialized(registry, 'every', EVERY, [every(i) for i in range(n)])
    id = struct.unpack('>I', theirs[0][1:5])[0]
    parsed = fastavro.parse_schema(EVERY)
    for i in range(n, 2 * n):
        out = io.BytesIO(b'\0' + struct.pack('>I', id))
        out.seek(5)
        fastavro.schemaless_writer(out, parsed, every(i))
        theirs.append(out.getvalue())
    kafka.produce('every', [(0, None, m) for m in theirs])
    create(c, 'every', 'every', 'every', '{"format": "avro"}')
    caught_up(c, 'every', 2 * n)
    dead = c.psql("SELECT \"offset\", error FROM millrace.dead_letters WHERE source = 'every' LIMIT 3")
    got = [json.loads(r[0]) for r in c.psql("SET timezone = 'UTC'; SELECT (to_jsonb(every) || jsonb_build_object('raw', encode(raw, 'base64'), 'hash', encode(hash, 'base64'), 'price', price::text, 'price_fixed', price_fixed::text, "
                                            "'d', d::text, 'f', f::float8))::text FROM every ORDER BY id")]
    single = lambda x: struct.unpack('f', struct.pack('f', x))[0]

    def plain(v):
        """As JSON has it: bytes in base64, times in ISO."""
        if isinstance(v, bytes):
            return base64.b64encode(v).decode()
        if isinstance(v, dict):
            return {k: plain(x) for k, x in v.items()}
        if isinstance(v, list):
            return [plain(x) for x in v]
        return v
    wrong = []
    for row, message in zip(got, theirs):
        r = fastavro.schemaless_reader(io.BytesIO(message[5:]), parsed)
        for name, value in r.items():
            g = row[name]
            if isinstance(value, dt.datetime):
                good = dt.datetime.fromisoformat(g).replace(tzinfo=None) == value.replace(tzinfo=None)
            elif isinstance(value, (dt.date, dt.time)):
                good = type(value).fromisoformat(g) == value
            elif isinstance(value, decimal.Decimal):
                good = decimal.Decimal(g) == value
            elif name in ('raw', 'hash'):
                good = base64.b64decode(g) == value
            elif name == 'd':
                good = float(g) == value
            elif name == 'reals':
                good = [single(x) for x in g] == value
            elif name == 'uid':
                good = g == str(value)
            else:
                good = g == plain(value)
            if not good:
                wrong.append((row['id'], name, g, value))
    tap.same((len(got), dead, wrong[:5]), (2 * n, [], []), "every type, as confluent-kafka and fastavro wrote it: %d values compared" % (2 * n * len(EVERY['fields'])))


def evolution(c, kafka, registry):
    """Versions of one schema mixed in one topic: fields added, removed, moved, widened, made nullable."""
    def version(*fields):
        return {'type': 'record', 'name': 'evolves', 'fields': [{'name': n, 'type': t} for n, t in fields]}
    versions = [
        (version(('id', 'int'), ('name', 'string'), ('size', 'int')), lambda i: {'id': i, 'name': 'n%d' % i, 'size': i}),
        (version(('name', 'string'), ('id', 'long'), ('size', ['null', 'double']), ('note', 'string')), lambda i: {'id': i, 'name': 'n%d' % i, 'size': None if i % 2 else i / 2, 'note': 'new'}),
        (version(('id', 'long'), ('tags', {'type': 'array', 'items': 'string'})), lambda i: {'id': i, 'tags': ['a', 'b']})]
    c.psql("SET ROLE app; CREATE TABLE evolves (id bigint PRIMARY KEY, name text, size double precision DEFAULT -1, note text DEFAULT 'none', tags text[])")
    kafka.create_topic('evolves', 1)
    messages = [serialized(registry, 'evolves', s, [make(i)])[0] for i in range(90) for k, (s, make) in enumerate(versions) if i % 3 == k]
    kafka.produce('evolves', [(0, None, m) for m in messages])
    create(c, 'evolves', 'evolves', 'evolves', '{"format": "avro"}')
    caught_up(c, 'evolves', 90)
    expected = [(str(i), 'n%d' % i if i % 3 < 2 else None, str(i) if i % 3 == 0 else (None if i % 2 else ('%g' % (i / 2))) if i % 3 == 1 else '-1', 'new' if i % 3 == 1 else 'none', '{a,b}' if i % 3 == 2 else None) for i in range(90)]
    tap.same(c.psql('SELECT * FROM evolves ORDER BY id'), expected, 'three versions of a schema in one topic')


def misbehaving(c, kafka, registry):
    c.psql('SET ROLE app; CREATE TABLE bad (id int PRIMARY KEY); CREATE TABLE other (id int)')
    kafka.create_topic('bad')
    kafka.create_topic('other')
    create(c, 'bad', 'bad', 'bad', '{"format": "avro"}')
    create(c, 'other', 'other', 'other')
    n = 0
    for i, (mode, part) in enumerate((('broken', 'answered 500'), ('no json', 'json'), ('large', '2 MB'), ('redirect', 'answered 302'), ('references', 'answered 404'), ('protobuf', 'no Avro'),
                                      ('invalid', 'unknown type'), ('slow', 'imed out'))):
        registry.mode = 'good'
        messages = serialized(registry, 'bad', {'type': 'record', 'name': 'v%d' % i, 'fields': [{'name': 'id', 'type': 'int'}]}, [{'id': n + k} for k in range(10)])
        registry.mode = mode
        kafka.produce('bad', [(0, None, m) for m in messages])
        if mode == 'slow':
            time.sleep(1.5)
            kafka.produce('other', [(0, None, b'{"id": 1}')])
            t = time.monotonic()
            caught_up(c, 'other', 1)
            tap.ok(time.monotonic() - t < 5, 'a registry that hangs holds up nobody else')
            tap.same(c.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'millrace source' AND xact_start < now() - interval '1 second'"), '0', 'and holds no transaction')
        reason(c, 'bad', part, 40)
        n += 10
        registry.mode = 'good'
        caught_up(c, 'bad', n)
        tap.ok(True, f'a registry that is {mode}: waited for with the reason')
    tap.same(c.psql("SELECT count(*), (SELECT count(*) FROM millrace.dead_letters WHERE source = 'bad') FROM bad"), [(str(n), '0')], 'no message lost, and none blamed')
    kafka.produce('bad', [(0, None, b'\0' + struct.pack('>I', 77) + b'\x02')])
    reason(c, 'bad', 'Schema not found')
    c.psql("""SELECT millrace.add_avro_schema('k', 77, '"null"')""")
    caught_up(c, 'bad', n + 1)
    tap.same(c.psql("SELECT sqlstate FROM millrace.dead_letters WHERE source = 'bad'"), [('22P02',)], 'an id that nobody knows: told as null, its messages are dead letters')


def addresses(c, kafka, registry):
    c.psql(f"GRANT USAGE ON FOREIGN DATA WRAPPER millrace_kafka TO app; SET ROLE app; CREATE SERVER mine FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '{kafka.bootstrap}', schema_registry '{registry.url}')")
    for url in ('ftp://x', 'http://', 'http://user:pw@host', 'http://host/?x=1', 'file:///etc/passwd', 'http://host\r\nX: y'):
        try:
            c.psql(f"ALTER SERVER mine OPTIONS (SET schema_registry {literal(url)})")
            tap.ok(False, f'{url!r} is refused')
        except Exception as e:
            tap.ok('invalid value' in str(e), f'{url!r} is refused')
    tap.ok(SECRET not in c.logs(), 'no secret in the log')


def private(c, kafka, registry):
    """Ours to judge by the socket: brokers may be private, the registry's address is checked by the same rule."""
    c.psql("SET ROLE app; CREATE TABLE inside (id int)")
    kafka.create_topic('inside')
    before = len(registry.asked)
    kafka.produce('inside', [(0, None, m) for m in serialized(registry, 'inside', {'type': 'record', 'name': 'inside', 'fields': [{'name': 'id', 'type': 'int'}]}, [{'id': 1}])])
    c.psql("SELECT millrace.create_source('inside', 'mine', 'inside', 'inside', '{\"owner\": \"app\", \"format\": \"avro\"}')")
    reason(c, 'inside', 'broker', 60)
    tap.same(len(registry.asked), before, "a server that is no superuser's reaches nothing private")
    c.psql("ALTER SERVER mine OPTIONS (ADD allow_private 'true')")
    caught_up(c, 'inside', 1)
    tap.same(c.value('SELECT count(*) FROM inside'), '1', 'until a superuser allows it')


def main():
    try:
        import confluent_kafka.schema_registry.avro     # noqa: F401
    except ImportError as e:
        tap.skip_all('needs what confluent-kafka needs for its registry client: %s' % e)
    registry = Registry()

    def setup(c, kafka):
        c.psql(f"ALTER SERVER k OPTIONS (ADD schema_registry '{registry.url}/'); CREATE USER MAPPING FOR app SERVER k OPTIONS (registry_username 'me', registry_password '{SECRET}')")

    run('stream_registry', (fetched, references, types, evolution, misbehaving, addresses, private), setup=setup, extra=(registry,))


if __name__ == '__main__':
    main()
