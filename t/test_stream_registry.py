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

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.stream import caught_up, create, literal, reason, run

SECRET = 'kanarienvogel-23'


class Registry:
    """The part of Confluent's registry that a serializer and we use; mode says how it misbehaves."""

    def __init__(self):
        self.schemas, self.mode, self.asked, self.seen = {}, 'good', [], []
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
                schema = json.loads(self.rfile.read(int(self.headers['Content-Length'])))['schema']
                id = next((i for i, s in stub.schemas.items() if s == schema), None) or 100000 + len(stub.schemas)
                stub.schemas[id] = schema
                self.answer(200, {'id': id, 'subject': 's', 'version': 1, 'schema': schema})

            def do_GET(self):
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
                    self.answer(200, {'schema': stub.schemas[id]})

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
    serializer = AvroSerializer(SchemaRegistryClient({'url': registry.url}), json.dumps(schema))
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


def misbehaving(c, kafka, registry):
    c.psql('SET ROLE app; CREATE TABLE bad (id int PRIMARY KEY); CREATE TABLE other (id int)')
    kafka.create_topic('bad')
    kafka.create_topic('other')
    create(c, 'bad', 'bad', 'bad', '{"format": "avro"}')
    create(c, 'other', 'other', 'other')
    n = 0
    for i, (mode, part) in enumerate((('broken', 'answered 500'), ('no json', 'json'), ('large', '2 MB'), ('redirect', 'answered 302'), ('references', 'refers to other'), ('protobuf', 'no Avro'),
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

    run('stream_registry', (fetched, misbehaving, addresses, private), setup=setup, extra=(registry,))


if __name__ == '__main__':
    main()
