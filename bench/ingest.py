"""Feature messages into a table: JSON of about 210 bytes with 20 floats, a primary key, every variant into the same database.

    bench/ingest.py [--messages 600000] [--rounds 3] [--seconds 20] [--idle 60] [--only millrace,debezium,python]

The topic (4 partitions) is filled first; the clock runs from the first visible row to the last row of every partition.
    millrace   two workers, real[], exactly once
    debezium   Debezium's JDBC sink in Kafka Connect, two tasks, batches of 5,000, the JSON as text, unparsed; at least once
    python     one confluent-kafka consumer, json, psycopg COPY into real[], offsets committed after the rows; at least once
CPU is that of all processes of the database and of the client, librdkafka's and the JVM's threads included, the broker's not.
Then, of Millrace alone: latency from produce() to the row's commit at 1,000 messages/s, and the CPU of an idle source.
Needs PG_CONFIG of a private PostgreSQL with the extension (make bench sets it), Java 17, and mvn for Kafka Connect.
"""
import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 't'))
from lib.cluster import Cluster
from lib.kafka import Kafka, free_port

HERE = os.path.dirname(os.path.abspath(__file__))
PARTITIONS = 4
TICK = os.sysconf('SC_CLK_TCK')


def connect_jars():
    lib = os.environ.get('MILLRACE_CONNECT_LIB') or os.path.join(HERE, '..', 'build', 'connect', 'lib')
    if not os.path.isdir(lib):
        subprocess.run(['mvn', '-q', '-B', '-Dstyle.color=never', '-f', os.path.join(HERE, 'connect', 'pom.xml'), 'dependency:copy-dependencies',
                        '-DincludeScope=runtime', '-DoutputDirectory=' + lib + '.new'], check=True, timeout=1800)
        os.rename(lib + '.new', lib)
    return lib


def cpu(pid, children=False):
    """Seconds of a process; children: of those it waited for, too."""
    with open('/proc/%d/stat' % pid) as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return sum(int(x) for x in fields[11:15 if children else 13]) / TICK


def cpu_below(pid):
    total = cpu(pid, children=True)
    with open('/proc/%d/task/%d/children' % (pid, pid)) as f:
        for child in f.read().split():
            try:
                total += cpu(int(child))
            except FileNotFoundError:       # it ended: now the parent's
                pass
    return total


class Millrace:
    name = 'millrace'
    table = 'image_id text PRIMARY KEY, descriptors real[]'

    def __init__(self, bench):
        self.bench = bench

    def start(self):
        self.bench.sql("SELECT millrace.create_source('features', 'kafka', 'features', 'millrace_rows', '{\"workers\": 2}')")

    def cpu(self):
        return 0.0                          # all of it is the database's

    def failed(self):
        return False

    def stop(self):
        self.bench.sql("SELECT millrace.drop_source('features')")


class Process:
    def __init__(self, bench):
        self.bench, self.process = bench, None

    def cpu(self):
        return cpu(self.process.pid)

    def failed(self):
        return self.process.poll() is not None

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Debezium(Process):
    name = 'debezium'
    table = 'image_id text PRIMARY KEY, body text'

    def failed(self):
        with open(os.path.join(self.bench.folder, 'connect', 'log')) as log:
            return 'Task is being killed' in log.read()     # Connect itself lives on

    def start(self):
        b, folder = self.bench, os.path.join(self.bench.folder, 'connect')
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        worker = {'bootstrap.servers': b.kafka.bootstrap, 'key.converter': 'org.apache.kafka.connect.storage.StringConverter',
                  'value.converter': 'org.apache.kafka.connect.storage.StringConverter', 'offset.storage.file.filename': folder + '/offsets',
                  'offset.flush.interval.ms': '5000', 'listeners': 'http://127.0.0.1:%d' % free_port(), 'plugin.discovery': 'service_load',
                  'consumer.max.poll.records': '5000', 'consumer.auto.offset.reset': 'earliest', 'consumer.fetch.max.bytes': '16777216'}
        sink = {'name': 'sink-%d' % time.time(), 'connector.class': 'io.debezium.connector.jdbc.JdbcSinkConnector', 'tasks.max': '2', 'topics': 'features',
                'connection.url': 'jdbc:postgresql://127.0.0.1:%d/bench?reWriteBatchedInserts=true' % b.pg.port, 'connection.username': 'postgres',
                'connection.password': 'unused', 'insert.mode': 'insert', 'primary.key.mode': 'record_key', 'primary.key.fields': 'image_id',
                'schema.evolution': 'none', 'table.name.format': 'debezium_rows', 'batch.size': '5000',
                'transforms': 'key,hoist', 'transforms.key.type': 'org.apache.kafka.connect.transforms.HoistField$Key', 'transforms.key.field': 'image_id',
                'transforms.hoist.type': 'org.apache.kafka.connect.transforms.HoistField$Value', 'transforms.hoist.field': 'body'}
        for name, conf in (('worker', worker), ('sink', sink)):
            with open('%s/%s.properties' % (folder, name), 'w') as f:
                f.writelines('%s=%s\n' % kv for kv in conf.items())
        with open(folder + '/log', 'w') as log:
            self.process = subprocess.Popen(['java', '-Xmx1g', '-XX:+UseParallelGC', '-cp', os.path.join(connect_jars(), '*'), 'org.apache.kafka.connect.cli.ConnectStandalone',
                                             folder + '/worker.properties', folder + '/sink.properties'], stdout=log, stderr=log)


class Python(Process):
    name = 'python'
    table = 'image_id text PRIMARY KEY, descriptors real[]'

    def start(self):
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__), '--consumer', self.bench.kafka.bootstrap, self.bench.pg.dsn('bench')])


def consumer(bootstrap, dsn):
    """The usual one; ends when it is told to."""
    import psycopg
    from confluent_kafka import Consumer
    db = psycopg.connect(dsn)
    c = Consumer({'bootstrap.servers': bootstrap, 'group.id': 'p%f' % time.time(), 'auto.offset.reset': 'earliest', 'enable.auto.commit': False})
    c.subscribe(['features'])
    while True:
        batch = c.consume(5000, 0.1)
        if not batch:
            continue
        with db.cursor() as cursor, cursor.copy('COPY python_rows FROM STDIN') as copy:
            for m in batch:
                b = json.loads(m.value())
                copy.write_row((b['image_id'], b['descriptors']))
        db.commit()
        c.commit(asynchronous=True)


class Bench:
    def __init__(self, args):
        self.args = args
        self.folder = os.path.abspath(os.environ.get('MILLRACE_TMP', os.path.join('tmp', 'bench_ingest')))

    def sql(self, text, **where):
        return self.pg.psql(text, db='bench', **where)

    def fill(self):
        rng = random.Random(1)
        self.kafka.create_topic('features', PARTITIONS)
        messages, self.last = [], {}
        for i in range(self.args.messages):
            key = 'image-%07d' % i
            value = json.dumps({'image_id': key, 'descriptors': [round(rng.gauss(0, 2), 5) for _ in range(20)]}).encode()
            messages.append((i % PARTITIONS, key.encode(), value))
            self.last[i % PARTITIONS] = key
        self.kafka.produce('features', messages)
        print('%d messages of %.0f bytes on average' % (len(messages), statistics.mean(len(m[2]) for m in messages[:10000])), flush=True)

    def flood(self, variant, limit=180):
        """Rows per second, microseconds of CPU a row."""
        table = variant.name + '_rows'
        self.sql('DROP TABLE IF EXISTS %s; CREATE TABLE %s (%s); ALTER TABLE %s OWNER TO app; CHECKPOINT' % (table, table, variant.table, table))
        variant.start()
        db = self.session
        end = time.time() + limit
        try:
            while not db.execute('SELECT EXISTS (SELECT FROM %s)' % table).fetchone()[0]:
                if time.time() > end or variant.failed():
                    raise SystemExit('%s: no row after %d s, or it failed' % (variant.name, limit))
                time.sleep(0.002)
            started, before = time.time(), cpu_below(self.pg.postmaster_pid()) + variant.cpu()
            first = db.execute('SELECT count(*) FROM ' + table).fetchone()[0]
            left = set(self.last.values())
            while left:
                left -= {r[0] for r in db.execute('SELECT image_id FROM %s WHERE image_id = ANY (%%s)' % table, (list(left),)).fetchall()}
                if time.time() > end:
                    raise SystemExit('%s: not done after %d s' % (variant.name, limit))
                time.sleep(0.01)
            took, used = time.time() - started, cpu_below(self.pg.postmaster_pid()) + variant.cpu() - before
        finally:
            variant.stop()
        rows = db.execute('SELECT count(*) FROM ' + table).fetchone()[0]
        assert rows == self.args.messages, rows
        return (rows - first) / took, used / (rows - first) * 1e6

    def latency(self, rate=1000):
        """Milliseconds to the row's commit timestamp: (p50, p99) from produce(), and from the broker's append.  It is visible after one
        flush of WAL more, which is not in it."""
        self.kafka.create_topic('paced', PARTITIONS, {'message.timestamp.type': 'LogAppendTime'})
        self.sql("CREATE TABLE paced (sent double precision, descriptors real[], source_time timestamptz, xid xid8 DEFAULT pg_current_xact_id()); ALTER TABLE paced OWNER TO app;"
                 "SELECT millrace.create_source('paced', 'kafka', 'paced', 'paced', '{\"workers\": 2}')")
        self.pg.wait_for("SELECT count(*) = %d FROM millrace.source_offsets WHERE source = 'paced'" % PARTITIONS, db='bench')
        time.sleep(3)
        producer = self.kafka.producer(**{'linger.ms': 0, 'enable.idempotence': False})
        n, start = rate * self.args.seconds, time.time()
        body = json.dumps([round(random.gauss(0, 2), 5) for _ in range(20)])
        for i in range(n):
            while time.time() < start + i / rate:
                producer.poll(0)
                time.sleep(0.0002)
            producer.produce('paced', b'{"sent": %.6f, "descriptors": %s}' % (time.time(), body.encode()), partition=i % PARTITIONS)
        producer.flush()
        self.pg.wait_for("SELECT sum(next_offset) >= %d FROM millrace.source_offsets WHERE source = 'paced'" % n, db='bench')
        seen = []
        for since in ('sent', 'extract(epoch FROM source_time)'):       # the first fifth warms up
            ms = sorted(float(r[0]) for r in self.sql('SELECT 1000 * (extract(epoch FROM pg_xact_commit_timestamp(xid::xid)) - %s) FROM paced ORDER BY sent OFFSET %d' % (since, n // 5)))
            seen += [ms[len(ms) // 2], ms[int(len(ms) * 0.99)]]
        self.sql("SELECT millrace.drop_source('paced')")
        return tuple(seen)

    def idle(self, sources):
        """Per cent of a core that a source without messages costs, all threads of its worker; and of the supervisor beside them."""
        for i in range(sources):
            self.kafka.create_topic('idle%d' % i)
            self.sql("CREATE TABLE idle%d (id int); ALTER TABLE idle%d OWNER TO app; SELECT millrace.create_source('idle%d', 'kafka', 'idle%d', 'idle%d')" % ((i,) * 5))
        self.pg.wait_for("SELECT count(*) = %d FROM millrace.source_offsets WHERE source LIKE 'idle%%'" % sources, db='bench')
        time.sleep(5)
        pids = [int(r[0]) for r in self.sql("SELECT pid FROM millrace.source_workers WHERE source LIKE 'idle%'")]
        others = [int(r[0]) for r in self.sql("SELECT pid FROM pg_stat_activity WHERE backend_type IN ('millrace supervisor', 'millrace launcher')")]
        before, other = sum(map(exact_cpu, pids)), sum(map(exact_cpu, others))
        time.sleep(self.args.idle)
        return (sum(map(exact_cpu, pids)) - before) / self.args.idle / sources * 100, (sum(map(exact_cpu, others)) - other) / self.args.idle * 100

    def run(self):
        import psycopg
        conf = {'shared_preload_libraries': 'millrace', 'max_worker_processes': 16, 'shared_buffers': '1GB', 'max_wal_size': '8GB',
                'log_min_messages': 'warning', 'listen_addresses': '127.0.0.1', 'track_commit_timestamp': 'on'}
        args = self.args
        with Kafka(self.folder, heap='1g') as self.kafka, Cluster(os.environ['PG_CONFIG'], os.path.join(self.folder, 'pg'), conf=conf) as self.pg:
            self.pg.psql('CREATE DATABASE bench')
            self.sql("CREATE EXTENSION millrace; CREATE ROLE app LOGIN; GRANT CREATE ON SCHEMA public TO app; "
                     "CREATE SERVER kafka FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '%s'); GRANT USAGE ON FOREIGN SERVER kafka TO app; "
                     "SELECT millrace.start()" % self.kafka.bootstrap)
            self.session = psycopg.connect(self.pg.dsn('bench'), autocommit=True)
            seen = {}
            if args.rounds:
                self.fill()
            for r in range(args.rounds):
                for variant in [v(self) for v in (Millrace, Debezium, Python) if v.name in args.only.split(',')]:
                    rate, us = self.flood(variant)
                    seen.setdefault(variant.name, []).append((rate, us))
                    print('round %d  %-9s %8.0f rows/s  %6.2f us of CPU a row' % (r + 1, variant.name, rate, us), flush=True)
            for name in seen:
                if name != 'millrace' and 'millrace' in seen:
                    pairs = list(zip(seen['millrace'], seen[name]))
                    print('millrace / %s: %.2f x the rows/s, %.2f x a CPU second (medians of %d rounds)' % (
                        name, statistics.median(a[0] / b[0] for a, b in pairs), statistics.median(b[1] / a[1] for a, b in pairs), len(pairs)))
            if args.seconds:
                print('1,000 messages/s to the commit of the row, without its flush: p50 %.1f ms, p99 %.1f ms from produce(); p50 %.1f ms, p99 %.1f ms from the broker\'s append' % self.latency(), flush=True)
            if args.idle:
                print('idle: %.3f %% of a core a source, supervisor and launcher %.3f %%' % self.idle(2), flush=True)


def exact_cpu(pid):
    """Seconds of all threads, from the scheduler: a tick of 10 ms is coarse for an idle process."""
    total = 0
    for task in os.listdir('/proc/%d/task' % pid):
        with open('/proc/%d/task/%s/schedstat' % (pid, task)) as f:
            total += int(f.read().split()[0])
    return total / 1e9


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--messages', type=int, default=600000)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--seconds', type=int, default=20)
    parser.add_argument('--idle', type=int, default=60)
    parser.add_argument('--only', default='millrace,debezium,python')
    parser.add_argument('--consumer', nargs=2)
    given = parser.parse_args()
    if given.consumer:
        consumer(*given.consumer)
    else:
        Bench(given).run()
