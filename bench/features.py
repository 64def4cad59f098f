"""Feature messages per second and worker: JSON with 20 floats -> descriptors -> predictions of one profile.

    bench/features.py [--messages 300000] [--rounds 3]

The topic is filled first (so the sender takes no part), then one worker reads it; the time runs from the
source's start to the last prediction.  In the same run, the same messages by the usual Python consumer:
confluent-kafka, json, psycopg COPY into the descriptors' shape only (no prediction), as the peer.
"""
import argparse
import json
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 't'))
from lib.cluster import Cluster
from lib.kafka import Kafka

parser = argparse.ArgumentParser()
parser.add_argument('--messages', type=int, default=300000)
parser.add_argument('--rounds', type=int, default=3)
args = parser.parse_args()
folder = os.environ.get('MILLRACE_TMP', os.path.join('tmp', 'bench'))
conf = {'shared_preload_libraries': 'millrace', 'max_worker_processes': 16, 'shared_buffers': '1GB', 'max_wal_size': '8GB',
        'log_min_messages': 'warning'}


def python_consumer(kafka, pg, topic, n):
    import psycopg
    from confluent_kafka import Consumer
    db = psycopg.connect(pg.dsn('bench'))
    db.execute('DROP TABLE IF EXISTS python_descriptors')
    db.execute('CREATE TABLE python_descriptors (image_id text PRIMARY KEY, descriptors real[], descriptor_count int)')
    db.commit()
    c = Consumer({'bootstrap.servers': kafka.bootstrap, 'group.id': 'p%f' % time.time(), 'auto.offset.reset': 'earliest',
                  'enable.auto.commit': False})
    c.subscribe([topic])
    seen, started = 0, None
    while seen < n:
        batch = c.consume(5000, 0.1)
        if batch and started is None:
            started = time.time()
        with db.cursor() as cursor, cursor.copy('COPY python_descriptors FROM STDIN') as copy:
            for m in batch:
                b = json.loads(m.value())
                copy.write_row((b['image_id'], b['descriptors'], b['descriptor_count']))
        db.commit()
        c.commit(asynchronous=True)
        seen += len(batch)
    c.close()
    return n / (time.time() - started)


with Kafka(folder) as kafka, Cluster(os.environ['PG_CONFIG'], os.path.join(folder, 'pg'), conf=conf) as pg:
    import random
    rng = random.Random(1)
    kafka.create_topic('image-features-stream', partitions=1)
    kafka.produce('image-features-stream', [
        (0, None, json.dumps({'image_id': 'image-%07d' % i, 'descriptors': [round(rng.gauss(0, 2), 5) for _ in range(20)],
                              'descriptor_count': 20}).encode()) for i in range(args.messages)])
    pg.psql('CREATE DATABASE bench')
    pg.psql("CREATE EXTENSION millrace; CREATE ROLE mill LOGIN IN ROLE millrace_admin, millrace_modeler; "
            "GRANT CREATE ON DATABASE bench TO mill; CREATE SERVER kafka FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '%s'); "
            "GRANT USAGE ON FOREIGN SERVER kafka TO mill; SELECT millrace.start()" % kafka.bootstrap, db='bench')
    pg.psql("SELECT millrace.train_model('cifar10_fast', 'logistic_regression', $$SELECT (SELECT array_agg((i * 7919 + j * 104729) %% 1000 / 500.0 "
            "ORDER BY j)::real[] FROM generate_series(1, 20) j) AS d, 'class ' || i %% 10 AS label FROM generate_series(1, 2000) i$$, 'label')"
            .replace('%%', '%'), db='bench')
    ours, theirs = [], []
    for r in range(args.rounds):
        pg.psql("SELECT millrace.create_pipeline('images'); DELETE FROM images.profiles WHERE profile <> 'fast'", db='bench', user='mill')
        pg.psql("SELECT millrace.create_source('features', 'kafka', 'image-features-stream', 'images.descriptors', '{\"workers\": 1}')",
                db='bench', user='mill')
        pg.wait_for('SELECT count(*) > 0 FROM images.descriptors', db='bench', every=0.005)
        started, first = time.time(), int(pg.value('SELECT count(*) FROM images.predictions', db='bench'))
        pg.wait_for('SELECT sum(next_offset) >= %d FROM millrace.source_offsets' % args.messages, db='bench', timeout=300, every=0.02)
        ours.append((args.messages - first) / (time.time() - started))
        assert pg.value('SELECT count(*) FROM images.predictions', db='bench') == str(args.messages)
        pg.psql("SELECT millrace.drop_pipeline('images')", db='bench', user='mill')
        theirs.append(python_consumer(kafka, pg, 'image-features-stream', args.messages))
        print('round %d: millrace %.0f/s (descriptors and predictions), python COPY %.0f/s (descriptors only)' % (r, ours[-1], theirs[-1]), flush=True)
    print('median: millrace %.0f/s, python %.0f/s, ratio %.2f' % (statistics.median(ours), statistics.median(theirs),
                                                               statistics.median(a / b for a, b in zip(ours, theirs))))
