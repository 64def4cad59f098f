"""Both sides of a comparison on one core: a session of PostgreSQL with the extension, and this process.

    with Side() as s:
        s.copy('train', x, labels)                      # a temporary table: f real[], y text
        s.clock('ours', lambda: s.one('SELECT millrace.train_model(...)'))
        s.clock('theirs', lambda: peer.fit(x, y))
        s.least('ours').cpu / s.least('theirs').cpu     # seconds; .wall alike; median(); mean() for what differs from call to call

Import it before numpy and the peers: it gives them one thread.  The server is that of PGHOST, else a private cluster
of PG_CONFIG under tmp/.  Both processes are pinned to the same core, the last one that this process may use.
"""
import collections
import contextlib
import json
import os
import pathlib
import sys
import time

for v in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[v] = '1'
import numpy as np
import psycopg

ROOT = pathlib.Path(__file__).resolve().parents[2]


@contextlib.contextmanager
def server():
    """What to connect to."""
    if os.environ.get('PGHOST'):
        yield ''
        return
    sys.path.insert(0, str(ROOT / 't'))
    from lib.cluster import Cluster, find_pg_config
    folder = pathlib.Path(os.environ.get('MILLRACE_TMP', ROOT / 'tmp')) / 'bench_side'
    with Cluster(find_pg_config(), folder, conf={'fsync': 'off', 'shared_buffers': '256MB'}) as c:
        c.psql('CREATE EXTENSION millrace')
        yield c.dsn()


Seconds = collections.namedtuple('Seconds', 'cpu wall')


class Side:
    def __init__(self):
        self.runs = {}

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        self.db = self.stack.enter_context(psycopg.connect(self.stack.enter_context(server()), autocommit=True))
        self.pid = self.db.info.backend_pid
        os.sched_setaffinity(self.pid, os.sched_getaffinity(0))
        self.db.execute("SET max_parallel_workers_per_gather = 0; SET millrace.train_memory = '4GB'")
        return self

    def __exit__(self, *exc):
        return self.stack.__exit__(*exc)

    def one(self, text, *values):
        """The first column of a statement's first row."""
        return self.db.execute(text, values or None).fetchone()[0]

    def spent(self):
        """CPU seconds of this process and of the session's: only one of them works, and the machine may be shared."""
        with open('/proc/%d/schedstat' % self.pid) as f:
            return time.process_time() + int(f.read().split()[0]) * 1e-9

    def clock(self, key, f):
        """f's answer; its seconds are kept under the key."""
        wall, cpu = time.perf_counter(), self.spent()
        answer = f()
        cpu, wall = self.spent() - cpu, time.perf_counter() - wall
        self.runs.setdefault(key, []).append(Seconds(cpu, wall))
        return answer

    def least(self, key):
        return Seconds(*np.min(self.runs[key], 0))

    def median(self, key):
        return Seconds(*np.median(self.runs[key], 0))

    def mean(self, key):
        return Seconds(*np.mean(self.runs[key], 0))

    def copy(self, table, x, y=None, names=None):
        """Rows of float32 to a new temporary table, by binary COPY: f real[], or a column for each of names; y text
        where y is text, else real."""
        n, d = x.shape
        text = y is not None and y.dtype.kind in 'UO'
        columns = ['%s real' % c for c in names] if names else ['f real[]']
        columns += [] if y is None else ['y ' + ('text' if text else 'real')]
        fields = [('fields', '>i2')]
        if not names:
            fields += [('size', '>i4'), ('head', '>i4', 5)]
        fields += [('cells', [('size', '>i4'), ('value', '>f4')], d)]
        if y is not None:
            label = np.char.encode(y.astype(str)) if text else y.astype('>f4')
            fields += [('label size', '>i4'), ('label', label.dtype)]
        rows = np.zeros(n, fields)
        rows['fields'] = len(columns)
        rows['cells']['size'] = 4
        rows['cells']['value'] = x
        if not names:
            rows['size'] = 20 + 8 * d
            rows['head'] = 1, 0, 700, d, 1          # dimensions, no nulls, float4, length, first subscript
        pieces = [rows.tobytes()]
        if y is not None:
            rows['label'] = label
            rows['label size'] = label.dtype.itemsize
            pieces = [rows.tobytes()]
            if text:                                # labels have lengths of their own
                rows['label size'] = size = np.char.str_len(label)
                raw, width = rows.tobytes(), rows.itemsize
                pieces = [raw[i * width:(i + 1) * width - label.dtype.itemsize + s] for i, s in enumerate(size.tolist())]
        self.db.execute('CREATE TEMP TABLE %s (%s)' % (table, ', '.join(columns)))
        with self.db.cursor().copy('COPY %s FROM STDIN (FORMAT binary)' % table) as c:
            c.write(b'PGCOPY\n\xff\r\n\0' + bytes(8))
            for i in range(0, len(pieces), 10000):
                c.write(b''.join(pieces[i:i + 10000]))
            c.write(b'\xff\xff')
        self.db.execute('ANALYZE ' + table)

    def train(self, name, algorithm, query, target='y', **options):
        """A new version of a model."""
        return self.one('SELECT millrace.train_model(%s, %s, %s, %s, %s)', name, algorithm, query, target, json.dumps(options))

    def trained(self, name):
        """What the registry knows of the newest version: metrics and training."""
        return self.db.execute('SELECT metrics, training FROM millrace.models WHERE name = %s ORDER BY version DESC LIMIT 1',
                               (name,)).fetchone()

    def evaluate(self, name, query, target='y'):
        """The figures of millrace.evaluate_model(), as it keeps them."""
        at = self.one("""SELECT millrace.evaluate_model(%s, %s, %s, '{"points": 0, "top_errors": 0}')""", name, query, target)
        return self.one('SELECT metrics FROM millrace.evaluations WHERE id = %s', at)
