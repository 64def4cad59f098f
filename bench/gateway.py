#!/usr/bin/env python3
"""HTTP side by side: the gateway against FastAPI with scikit-learn, on the same cores.

    bench/gateway.py [--seconds 10] [--rounds 3] [--uploads 200] [--connections 16]

  /predict   20 descriptors -> label and confidence, wrk with 1 thread on the same two cores: requests/s and p99.  Two
             executors against two uvicorn workers; a logistic regression (profile fast) trained on the same rows.
  /upload    a JPEG -> its three predictions visible to another session: p50.  Python: FastAPI -> Kafka -> services.py (extract)
             -> Kafka -> services.py (classify) -> PostgreSQL, batches of what is there; ours: one request.
Rounds take turns; ratios come from one run.  Ends with 1 if a goal is missed: 5 x requests/s, a lower p99, p50 at most half.
Needs wrk, PG_CONFIG of a private PostgreSQL with the extension (make bench sets it), and ../shared/data.
"""
import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import time
import uuid

import psycopg

import pipeline
from lib.cluster import Cluster, free_port
from lib.kafka import Kafka

HERE = os.path.dirname(os.path.abspath(__file__))
UNITS = {'us': 1e-3, 'ms': 1, 's': 1000}


def multipart(content):
    mark = uuid.uuid4().hex
    body = ('--%s\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n' % mark).encode()
    return body + content + ('\r\n--%s--\r\n' % mark).encode(), 'multipart/form-data; boundary=' + mark


class Bench(pipeline.Bench):
    def wait_http(self, port, path, headers):
        end = time.time() + 30
        while time.time() < end:
            try:
                c = http.client.HTTPConnection('127.0.0.1', port, timeout=10)
                c.request('POST', path, json.dumps({'descriptors': self.row, 'profile': 'fast'}), {'Content-Type': 'application/json', **headers})
                r = c.getresponse()
                body = r.read()
                if r.status == 200:
                    return json.loads(body)
            except OSError:
                pass
            time.sleep(.2)
        raise SystemExit('nobody answers on port %d' % port)

    def wrk(self, port, path, headers):
        script = os.path.join(self.folder, 'predict.lua')
        with open(script, 'w') as f:
            f.write("wrk.method = 'POST'\nwrk.body = '%s'\nwrk.headers['Content-Type'] = 'application/json'\n" % json.dumps({'descriptors': self.row, 'profile': 'fast'}))
            for k, v in headers.items():
                f.write("wrk.headers['%s'] = '%s'\n" % (k, v))
        out = subprocess.run(['wrk', '-t1', '-c%d' % self.args.connections, '-d%ds' % self.args.seconds, '--latency', '-s', script,
                              'http://127.0.0.1:%d%s' % (port, path)], check=True, stdout=subprocess.PIPE, text=True).stdout
        if 'Non-2xx' in out:
            raise SystemExit(out)
        p99 = re.search(r'99%\s+([\d.]+)(us|ms|s)', out)
        return float(re.search(r'Requests/sec:\s+([\d.]+)', out).group(1)), float(p99.group(1)) * UNITS[p99.group(2)]

    def upload(self, port, path, headers, sql, content):
        """Milliseconds from the first byte sent until another session sees all three predictions."""
        body, kind = multipart(content)
        started = time.perf_counter()
        self.client[port].request('POST', path, body, {'Content-Type': kind, **headers})
        r = self.client[port].getresponse()
        told = json.loads(r.read())
        if r.status != 201:
            raise SystemExit('%d: %s' % (r.status, told))
        while self.db.execute(sql, (told['image_id'],)).fetchone()[0] < 3:
            time.sleep(.0005)
        return 1000 * (time.perf_counter() - started)

    def run(self):
        port, python_port = free_port(), free_port()
        conf = {'shared_preload_libraries': 'millrace', 'max_worker_processes': 16, 'shared_buffers': '512MB', 'max_wal_size': '4GB',
                'log_min_messages': 'warning', 'millrace.http_executors': 2}
        rates, tails, uploads = {'python': [], 'millrace': []}, {'python': [], 'millrace': []}, {'python': [], 'millrace': []}
        with Kafka(self.folder) as self.kafka, Cluster(os.environ['PG_CONFIG'], os.path.join(self.folder, 'pg'), conf=conf) as self.pg:
            self.prepare_millrace()
            self.pg.psql("ALTER DATABASE bench SET millrace.http_listen = 'images=127.0.0.1:%d'" % port, db='bench')
            self.pg.psql("SELECT millrace.create_pipeline('images', options => '{\"descriptor_model\": \"bench_pca20\"}')", db='bench', user='mill')
            self.pg.psql("UPDATE images.profiles SET model = 'bench_' || profile", db='bench', user='mill')
            headers = {'Authorization': 'Bearer ' + self.pg.value("SELECT millrace.create_api_token('bench', 'mill')", db='bench')}
            self.row = [round(float(x), 6) for x in self.pg.value('SELECT d::text FROM z LIMIT 1', db='bench').strip('{}').split(',')]
            python = pipeline.Python(self, 'batch')
            python.start('gateway')
            api = subprocess.Popen([sys.executable, '-m', 'uvicorn', 'api:app', '--port', str(python_port), '--workers', '2', '--log-level', 'error',
                                    '--no-access-log'], cwd=os.path.join(HERE, 'python_pipeline'),
                                   env={**os.environ, 'MODELS': self.models, 'BROKERS': self.kafka.bootstrap, 'PHOTOS': python.topic})
            try:
                print('ours  ', self.wait_http(port, '/predict', headers))
                print('theirs', self.wait_http(python_port, '/predict', {}))
                sides = {'millrace': (port, '/predict', headers), 'python': (python_port, '/predict', {})}
                for r in range(self.args.rounds):
                    for name, side in sides.items():
                        rate, p99 = self.wrk(*side)
                        rates[name].append(rate)
                        tails[name].append(p99)
                        print('round %d  %-9s %8.0f requests/s, p99 %.2f ms' % (r, name, rate, p99), flush=True)
                self.client = {p: http.client.HTTPConnection('127.0.0.1', p) for p in (port, python_port)}
                photos = pipeline.messages(os.path.join(self.images, 'test'), self.args.uploads)
                see = {'millrace': (port, '/upload', headers, 'SELECT count(*) FROM images.predictions WHERE image_id = %s'),
                       'python': (python_port, '/upload', {}, 'SELECT count(*) FROM python_predictions WHERE image_id = %s')}
                with psycopg.connect(self.pg.dsn('bench'), autocommit=True) as self.db:
                    for _, m in photos:
                        content = pipeline.base64.b64decode(json.loads(m)['content'])
                        for name, side in see.items():
                            uploads[name].append(self.upload(*side, content))
            finally:
                api.terminate()
                api.wait()
                python.stop()
        for name in uploads:
            ms = sorted(uploads[name][5:])
            print('/upload  %-9s p50 %.2f ms, p99 %.2f ms' % (name, ms[len(ms) // 2], ms[int(len(ms) * .99)]))
        rate = statistics.median(a / b for a, b in zip(rates['millrace'], rates['python']))
        tail = statistics.median(a / b for a, b in zip(tails['millrace'], tails['python']))
        p50 = statistics.median(uploads['millrace'][5:]) / statistics.median(uploads['python'][5:])
        print('millrace / python: requests/s %.1f x, p99 %.2f x, /upload p50 %.2f x' % (rate, tail, p50))
        return rate >= 5 and tail < 1 and p50 <= .5


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--seconds', type=int, default=10)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--uploads', type=int, default=200)
    parser.add_argument('--connections', type=int, default=16)
    parser.set_defaults(images=8000)
    sys.exit(0 if Bench(parser.parse_args()).run() else 1)
