"""Whole path, side by side: photos in Kafka to visible predictions, Millrace against the usual Python services.

    bench/pipeline.py [--images 8000] [--rounds 3] [--seconds 30]

The same ResNet-20 file, the same broker, the same 4 partitions, both cores; every round runs every
variant, so that ratios come from one run.  Figures: images/s over a flood (first message sent to last
prediction visible), p50 and p95 latency from message timestamp to commit at 100 images/s, and the
proportional memory (PSS less shared buffers) of the processes that do the work.
Needs PG_CONFIG of a private PostgreSQL with the extension (make bench sets it), and ../shared/data.
"""
import argparse
import base64
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 't'))
from lib.cluster import Cluster
from lib.kafka import Kafka

HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.environ.get('MILLRACE_DATA', os.path.join(HERE, '..', '..', 'shared', 'data'))
NET = os.path.join(DATA, 'models', 'resnet20_cifar10.onnx')
LABELS = ['airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck']
SPEC = {'input': {'width': 32, 'height': 32, 'fit': 'stretch', 'channels': 'rgb', 'range': [0, 1], 'filter': 'bilinear',
                  'mean': [0.485, 0.456, 0.406], 'std': [0.229, 0.224, 0.225]}, 'output': 'features', 'labels': LABELS}


def messages(folder, n):
    out = []
    for label in sorted(os.listdir(folder)):
        for name in sorted(os.listdir(os.path.join(folder, label))):
            with open(os.path.join(folder, label, name), 'rb') as f:
                out.append((label + '/' + name, f.read()))
    out = out[::max(1, len(out) // n)][:n]
    return [(i, json.dumps({'image_id': i, 'content': base64.b64encode(b).decode()}).encode()) for i, b in out]


class Sender:
    """Sends in a process of its own, paced if asked for."""

    def __init__(self, kafka, topic, batch, rate=0):
        code = ("import sys,time,pickle\nfrom confluent_kafka import Producer\n"
                "b,t,rate,m=pickle.load(sys.stdin.buffer)\np=Producer({'bootstrap.servers':b,'linger.ms':5 if not rate else 0})\n"
                "s=time.time()\nfor n,(i,v) in enumerate(m):\n"
                "  d=s+n/rate-time.time() if rate else 0\n  if d>0: p.flush(0); time.sleep(d)\n"
                "  while True:\n    try: p.produce(t,v,partition=n%4); break\n    except BufferError: p.poll(0.01)\n  p.poll(0)\np.flush()")
        import pickle
        self.process = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE)
        pickle.dump((kafka.bootstrap, topic, rate, batch), self.process.stdin)
        self.process.stdin.close()


def pss(pids):
    """Proportional memory in MB, without shared memory segments (shared_buffers)."""
    total = 0
    for pid in pids:
        try:
            for block in re.split(r'(?m)^(?=[0-9a-f]+-[0-9a-f]+ )', open('/proc/%d/smaps' % pid).read()):
                if '/dev/zero' in block or '/dev/shm' in block or 'SYSV' in block or 'anon_hugepage (deleted)' in block:
                    continue
                found = re.search(r'^Pss:\s+(\d+)', block, re.M)
                total += int(found.group(1)) if found else 0
        except (FileNotFoundError, ProcessLookupError):
            pass
    return total / 1024


class Variant:
    def __init__(self, bench, name):
        self.bench, self.name = bench, name

    def wait(self, sql, expect, limit=600):
        """Until so many predictions are visible; the session that looks is the same for all variants."""
        end = time.time() + limit
        while time.time() < end:
            n = int(self.bench.pg.value(sql, db='bench'))
            if n >= expect:
                return time.time()
            time.sleep(0.02)
        raise SystemExit('%s: only %d of %d predictions after %d s' % (self.name, n, expect, limit))


class Python(Variant):
    def __init__(self, bench, mode):
        super().__init__(bench, 'python ' + mode)
        self.mode = mode

    def start(self, tag):
        b = self.bench
        b.pg.psql('DROP TABLE IF EXISTS python_predictions; CREATE TABLE python_predictions (image_id text, profile text, label text, '
                  'confidence real, sent timestamptz, at timestamptz DEFAULT clock_timestamp(), PRIMARY KEY (image_id, profile))', db='bench')
        self.topic = 'photos-' + tag
        b.kafka.create_topic(self.topic, partitions=4)
        b.kafka.create_topic('features-' + tag, partitions=4)
        common = [sys.executable, os.path.join(HERE, 'python_pipeline', 'services.py')]
        options = ['--brokers', b.kafka.bootstrap, '--mode', self.mode, '--models', b.models, '--photos', self.topic,
                   '--features', 'features-' + tag]
        self.processes = [subprocess.Popen(common + ['a', '--net', NET] + options, stdout=subprocess.PIPE),
                          subprocess.Popen(common + ['b', '--dsn', b.pg.dsn('bench')] + options, stdout=subprocess.PIPE)]
        for p in self.processes:
            p.stdout.readline()
        time.sleep(4)           # the group protocol hands out the partitions

    def stop(self):
        for p in self.processes:
            p.terminate()
        for p in self.processes:
            p.wait()

    def pids(self):
        return [p.pid for p in self.processes]

    count = 'SELECT count(*) FROM python_predictions'
    latency = 'SELECT 1000 * EXTRACT(epoch FROM max(at) - max(sent)) FROM python_predictions GROUP BY image_id'


class Millrace(Variant):
    def __init__(self, bench, workers=2):
        super().__init__(bench, 'millrace')
        self.workers = workers

    def start(self, tag):
        b = self.bench
        self.topic = 'photos-' + tag
        b.kafka.create_topic(self.topic, partitions=4)
        b.pg.psql("SELECT millrace.create_pipeline('images', options => '%s')" % json.dumps(
            {'server': 'kafka', 'images_topic': self.topic, 'descriptor_model': 'bench_pca20',
             'source': {'workers': self.workers}}), db='bench', user='mill')
        b.pg.psql("UPDATE images.profiles SET model = 'bench_' || profile", db='bench', user='mill')
        b.pg.wait_for("SELECT count(*) = 4 FROM millrace.source_offsets WHERE owner_pid IS NOT NULL", db='bench')

    def stop(self):
        self.bench.pg.psql("SELECT millrace.drop_pipeline('images')", db='bench', user='mill')

    def pids(self):
        return [int(r[0]) for r in self.bench.pg.psql(
            "SELECT pid FROM pg_stat_activity WHERE backend_type LIKE 'millrace%'", db='bench')]

    count = 'SELECT count(*) FROM images.predictions'
    latency = ('SELECT 1000 * EXTRACT(epoch FROM max(p.predicted_at) - max(d.source_time)) FROM images.predictions p '
               'JOIN images.descriptors d USING (image_id) GROUP BY image_id')


class Bench:
    def __init__(self, args):
        self.args = args
        self.folder = os.environ.get('MILLRACE_TMP', os.path.join(HERE, '..', 'tmp', 'bench'))
        os.makedirs(self.folder, exist_ok=True)
        self.images = os.path.join(self.folder, 'cifar10')
        if not os.path.isdir(self.images):
            with tarfile.open(os.path.join(DATA, 'cifar10_jpeg.tar.gz')) as t:
                t.extractall(self.folder)
        self.models = os.path.join(self.folder, 'models.pkl')
        if not os.path.exists(self.models):
            subprocess.run([sys.executable, os.path.join(HERE, 'python_pipeline', 'services.py'), 'fit', '--net', NET, '--images',
                            os.path.join(self.images, 'train'), '--out', self.models], check=True)

    def prepare_millrace(self):
        """The same net, and PCA and classifiers trained on the same images in the database."""
        pg = self.pg
        pg.psql('CREATE DATABASE bench')
        pg.psql("CREATE EXTENSION millrace; CREATE ROLE mill LOGIN IN ROLE millrace_admin, millrace_modeler; "
                "GRANT CREATE ON DATABASE bench TO mill; "
                "CREATE SERVER kafka FOREIGN DATA WRAPPER millrace_kafka OPTIONS (brokers '%s'); "
                "GRANT USAGE ON FOREIGN SERVER kafka TO mill; SELECT millrace.start(); "
                "CREATE TABLE train (label text, content bytea)" % self.kafka.bootstrap, db='bench')
        rows = []
        for label in sorted(os.listdir(os.path.join(self.images, 'train'))):
            for name in sorted(os.listdir(os.path.join(self.images, 'train', label)))[:500]:
                with open(os.path.join(self.images, 'train', label, name), 'rb') as f:
                    rows.append("('%s', '\\x%s')" % (label, f.read().hex()))
        for i in range(0, len(rows), 500):
            pg.psql('INSERT INTO train VALUES ' + ','.join(rows[i:i + 500]), db='bench')
        with open(NET, 'rb') as f:
            pg.psql("SELECT millrace.import_model('bench_net', '\\x%s', '%s')" % (f.read().hex(), json.dumps(SPEC)), db='bench')
        pg.psql("""
            SELECT millrace.train_model('bench_pca20', 'pca', $$SELECT extract_descriptors(content, 'bench_net') AS f FROM train$$, NULL,
                '{"n_components": 20, "backbone": "bench_net"}');
            CREATE TABLE z AS SELECT label, extract_descriptors(content, 'bench_pca20') AS d FROM train;
            SELECT millrace.train_model('bench_fast', 'logistic_regression', 'SELECT d, label FROM z', 'label', '{"max_iter": 1000}');
            SELECT millrace.train_model('bench_balanced', 'random_forest', 'SELECT d, label FROM z', 'label', '{"n_estimators": 30, "random_state": 0}');
            SELECT millrace.train_model('bench_accurate', 'random_forest', 'SELECT d, label FROM z', 'label', '{"n_estimators": 100, "random_state": 0}');
            """, db='bench')

    def run(self):
        floods, latencies, memory = {}, {}, {}
        conf = {'shared_preload_libraries': 'millrace', 'max_worker_processes': 16, 'shared_buffers': '512MB',
                'max_wal_size': '4GB', 'log_min_messages': 'warning'}
        with Kafka(self.folder) as self.kafka, Cluster(os.environ['PG_CONFIG'], os.path.join(self.folder, 'pg'), conf=conf) as self.pg:
            self.prepare_millrace()
            flood = messages(os.path.join(self.images, 'test'), self.args.images)
            steady = flood[:100 * self.args.seconds]
            variants = [Millrace(self), Python(self, 'batch')] + ([Python(self, 'single')] if not self.args.no_single else [])
            for r in range(self.args.rounds):
                for v in variants:
                    batch = flood if v.name != 'python single' else flood[:1500]
                    v.start('flood-%d-%s' % (r, v.name.replace(' ', '-')))
                    started = time.time()
                    Sender(self.kafka, v.topic, batch)
                    took = v.wait(v.count, 3 * len(batch)) - started
                    memory.setdefault(v.name, []).append(pss(v.pids()))
                    v.stop()
                    floods.setdefault(v.name, []).append(len(batch) / took)
                    print('round %d  %-14s flood %7.0f images/s' % (r, v.name, len(batch) / took), flush=True)
                    v.start('steady-%d-%s' % (r, v.name.replace(' ', '-')))
                    Sender(self.kafka, v.topic, steady, rate=100)
                    v.wait(v.count, 3 * len(steady))
                    ms = sorted(float(x[0]) for x in self.pg.psql(v.latency, db='bench'))[len(steady) // 5:]
                    v.stop()
                    latencies.setdefault(v.name, []).append(ms[len(ms) // 2])
                    print('round %d  %-14s 100/s: p50 %.1f ms, p95 %.1f ms' % (r, v.name, ms[len(ms) // 2], ms[int(len(ms) * .95)]), flush=True)
        print('\n%-14s %12s %14s %12s' % ('', 'images/s', 'p50 ms (100/s)', 'memory MB'))
        for n in floods:
            print('%-14s %12.0f %14.1f %12.0f' % (n, statistics.median(floods[n]), statistics.median(latencies[n]), statistics.median(memory[n])))
        ours = floods['millrace']
        for n in floods:
            if n != 'millrace':
                print('millrace / %s: images/s %.1f x, p50 %.2f x, memory %.2f x' % (
                    n, statistics.median(a / b for a, b in zip(ours, floods[n])),
                    statistics.median(a / b for a, b in zip(latencies['millrace'], latencies[n])),
                    statistics.median(a / b for a, b in zip(memory['millrace'], memory[n]))))


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--images', type=int, default=8000)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--seconds', type=int, default=30)
    parser.add_argument('--no-single', action='store_true')
    Bench(parser.parse_args()).run()
