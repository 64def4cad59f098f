"""Rows out to Kafka: our outbox worker against the usual Python relay, on the same broker, table rows and cores.

    bench/outbox.py [--rows 200000]

Both empty a backlog of the same rows (about 200 bytes of JSON and a key).  Ours: publish(), one Kafka transaction a batch, each
row once.  The relay: a table, SELECT ... FOR UPDATE SKIP LOCKED LIMIT 5000, confluent-kafka (idempotent, acks=all), flush,
DELETE, commit: at least once.  Then single messages: from COMMIT to a read_committed reader's hands.
"""
import argparse
import os
import statistics
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 't'))
from lib.kafka import Kafka
from lib.stream import cluster, folder, prepare

ROW = "json_build_object('id', i, 'v', repeat('x', 180))::text, i::text"


def cpu_of(pid):
    with open('/proc/%d/stat' % pid) as f:
        return sum(int(x) for x in f.read().rsplit(')', 1)[1].split()[11:13]) / os.sysconf('SC_CLK_TCK')


def ours(c, rows):
    c.psql("SELECT millrace.pause_outbox('k')")
    t = time.time()
    c.psql(f"SELECT count(*) FROM (SELECT millrace.publish('k', 'ours', {ROW}) FROM generate_series(1, {rows}) i OFFSET 0) x", timeout=600)
    publish = time.time() - t
    before = int(c.value('SELECT messages FROM millrace.outbox_progress'))
    c.psql("SELECT millrace.resume_outbox('k')")
    c.wait_for(f'SELECT messages > {before} FROM millrace.outbox_progress', 't', 60, 0.02)      # started, connected
    pid = int(c.value('SELECT pid FROM millrace.outbox_progress'))
    t, cpu, first = time.time(), cpu_of(pid), int(c.value('SELECT messages FROM millrace.outbox_progress'))
    c.wait_for(f'SELECT messages >= {before + rows} FROM millrace.outbox_progress', 't', 600, 0.05)
    n = before + rows - first
    return publish / rows, n / (time.time() - t), (cpu_of(pid) - cpu) / n * 1e6


def relay(c, kafka, rows):
    import psycopg
    from confluent_kafka import Producer
    c.psql('CREATE TABLE IF NOT EXISTS relayed (id bigserial PRIMARY KEY, key text, value text)')
    c.psql(f"INSERT INTO relayed (value, key) SELECT {ROW} FROM generate_series(1, {rows}) i", timeout=600)
    p = Producer({'bootstrap.servers': kafka.bootstrap, 'enable.idempotence': True, 'linger.ms': 5, 'compression.type': 'lz4',
                  'queue.buffering.max.messages': 1000000})
    t, cpu, n = time.time(), time.process_time(), 0
    with psycopg.connect(c.dsn()) as db:
        while True:
            batch = db.execute('SELECT id, key, value FROM relayed ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 5000').fetchall()
            if not batch:
                break
            for _, key, value in batch:
                p.produce('relay', value=value.encode(), key=key.encode())
            p.flush()
            db.execute('DELETE FROM relayed WHERE id = ANY (%s)', ([b[0] for b in batch],))
            db.commit()
            n += len(batch)
    return n / (time.time() - t), (time.process_time() - cpu) / n * 1e6


def latency(c, kafka, n=200):
    from confluent_kafka import Consumer, TopicPartition
    import psycopg
    r = Consumer({'bootstrap.servers': kafka.bootstrap, 'group.id': 'latency', 'isolation.level': 'read_committed', 'fetch.wait.max.ms': 5})
    r.assign([TopicPartition('single', 0, 0)])
    ms = []
    with psycopg.connect(c.dsn(), autocommit=True) as db:
        for i in range(n):
            db.execute("SELECT millrace.publish('k', 'single', %s)", (str(i),))
            t = time.time()
            while True:
                m = r.consume(1, 5)
                if m and not m[0].error() and m[0].value() == str(i).encode():
                    break
            ms.append((time.time() - t) * 1000)
    r.close()
    ms = sorted(ms[n // 10:])
    return statistics.median(ms), ms[int(len(ms) * 0.99)]


def main():
    a = argparse.ArgumentParser()
    a.add_argument('--rows', type=int, default=200000)
    rows = a.parse_args().rows
    with Kafka(folder('bench_outbox'), heap='1g') as kafka, cluster('bench_outbox', {'shared_buffers': '512MB', 'max_wal_size': '4GB'}) as c:
        prepare(c, kafka)
        for topic in ('ours', 'relay'):
            kafka.create_topic(topic, 6)
        kafka.create_topic('single', 1)
        c.psql("""SELECT millrace.create_outbox('k', '{"owner": "app"}'); SELECT millrace.publish('k', 'ours', 'first')""")
        c.wait_for('SELECT messages FROM millrace.outbox_progress', '1', 60)
        for r in range(2):
            publish, rate, us = ours(c, rows)
            theirs, their_us = relay(c, kafka, rows)
            print('round %d: outbox %.0f rows/s, %.1f us of CPU a row; relay %.0f rows/s, %.1f us; %.2f x; publish() %.1f us'
                  % (r + 1, rate, us, theirs, their_us, rate / theirs, publish * 1e6), flush=True)
        print('COMMIT to a read_committed reader: p50 %.1f ms, p99 %.1f ms' % latency(c, kafka))


if __name__ == '__main__':
    main()
