#!/usr/bin/env python3
"""Forests from SQL against scikit-learn: training, prediction set-wise and by single calls, explanations.

    taskset -c 1 bench/trees.py [--rounds N] [--big] [--trees N]

One core, one thread, the same rows, rounds interleaved, the least time of each side counts; ratio: ours / theirs.
Ours are the times of SQL statements (training: train_model() whole, reading the rows included), CPU time on both
sides; the server must be on the same core: it is taken from PGHOST, PGPORT, PGDATABASE, and must have the
extension.  --big: also 1,000,000 rows of 30 columns (make_classification), with --trees trees on both sides.
Needs psycopg, scikit-learn, shap, and ../shared/data/sdss17.
"""
import argparse
import csv
import os
import time

for v in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[v] = '1'
import numpy as np
import psycopg
from sklearn.datasets import make_classification
from sklearn.ensemble import (ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier,
                              RandomForestRegressor)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.environ.get('MILLRACE_DATA', os.path.join(ROOT, '../shared/data'))
parser = argparse.ArgumentParser()
parser.add_argument('--rounds', type=int, default=3)
parser.add_argument('--big', action='store_true')
parser.add_argument('--trees', type=int, default=2, help='of the forests on the big set')
args = parser.parse_args()

db = psycopg.connect(autocommit=True)
pid = db.execute('SELECT pg_backend_pid()').fetchone()[0]
os.sched_setaffinity(pid, os.sched_getaffinity(0))
db.execute('SET max_parallel_workers_per_gather = 0')
# Temporary: nothing stays behind but the models, dropped at the end.
db.execute("SET millrace.train_memory = '4GB'")
best = {}


def cpu():
    """Seconds on a CPU of this process and of the session's, whichever works: the machine may be shared."""
    with open('/proc/%d/schedstat' % pid) as f:
        return time.process_time() + int(f.read().split()[0]) * 1e-9


def clock(key, f):
    start = cpu()
    answer = f()
    best[key] = min(best.get(key, np.inf), cpu() - start)
    return answer


def sql(text, *values):
    return db.execute(text, values).fetchone()


def copy(table, x, y):
    db.execute('CREATE TEMP TABLE %s (f real[], y text)' % table)
    with db.cursor().copy('COPY %s FROM STDIN' % table) as c:
        for row, label in zip(x, y):
            c.write('{%s}\t%s\n' % (','.join(map(repr, row.tolist())), label))
    db.execute('ANALYZE ' + table)


def line(what, ours, theirs, unit=1.0, suffix='s'):
    a, b = best[ours], best[theirs]
    print('  %-44s millrace %9.3f %s   scikit-learn %9.3f %s   ratio %.3f' % (what, a * unit, suffix, b * unit, suffix, a / b))


def train(title, table, algorithm, make, xa, ya, xb, yb, regression=False, **params):
    options = ', '.join('"%s": %s' % (k, v) for k, v in params.items())
    options = '{%s%s}' % (options, (', ' if options else '') + '"task": "regression"' if regression else '')
    target = 'y::real AS y' if regression else 'y'
    for r in range(args.rounds if len(xa) < 100000 else 1):
        clock(title, lambda: sql('SELECT millrace.train_model(%s, %s, %s, %s, %s)', 'bench_trees', algorithm,
                                 'SELECT f, %s FROM %s' % (target, table), 'y', options))
        model = make()
        clock(title + ' sk', lambda: model.fit(xa, ya))
    q = xb[:20000]
    if regression:
        p = np.array([a[0] for a in db.execute("SELECT predict(f, 'bench_trees') FROM unnest(%s::text[]) t, LATERAL (SELECT t::real[] AS f) r",
                                               (['{%s}' % ','.join(map(repr, a.tolist())) for a in q],))])
        ours = 1 - ((p - yb[:20000]) ** 2).sum() / ((yb[:20000] - yb[:20000].mean()) ** 2).sum()
    else:
        p = [a[0] for a in db.execute("SELECT label FROM millrace.classify_rows(%s::real[], 'bench_trees')", (q.tolist(),))]
        ours = np.mean(np.array(p) == yb[:20000].astype(str))
    print('%s: %s %.4f, scikit-learn %.4f' % (title, 'R2' if regression else 'accuracy', ours, model.score(q, yb[:20000])))
    line('train_model(), rows read and stored', title, title + ' sk')
    return model


rows = list(csv.DictReader(open(os.path.join(DATA, 'sdss17/star_classification.csv'))))
x = np.array([[r[c] for c in 'alpha delta u g r i z redshift'.split()] for r in rows], dtype=np.float32)
y = np.array([r['class'] for r in rows])
order = np.random.default_rng(0).permutation(len(x))
x, y = x[order], y[order]
cut = len(x) * 4 // 5
xa, ya, xb, yb = x[:cut], y[:cut], x[cut:], y[cut:]
copy('stars', xa, ya)
train('SDSS17, extra trees, 100', 'stars', 'extra_trees', ExtraTreesClassifier, xa, ya, xb, yb)
copy('redshifts', xa[:, 2:7], xa[:, 7])
for name, algorithm, make in (('forest', 'random_forest', RandomForestRegressor), ('extra trees', 'extra_trees', ExtraTreesRegressor)):
    train('SDSS17 redshift from colours, %s, 20' % name, 'redshifts', algorithm, lambda: make(20), xa[:, 2:7], xa[:, 7],
          xb[:, 2:7], xb[:, 7], regression=True, n_estimators=20)
model = train('SDSS17, random forest, 100', 'stars', 'random_forest', RandomForestClassifier, xa, ya, xb, yb)

# Prediction with the forest trained last; every fifth of the rows is new to it.
copy('all_stars', x, y)
db.execute('CREATE TEMP TABLE blocks AS SELECT array_agg(f) AS rows FROM (SELECT f, row_number() OVER () / 1000 AS b FROM all_stars) s GROUP BY b')
for r in range(max(args.rounds, 3)):
    clock('set', lambda: sql("SELECT count(*) FROM blocks, LATERAL millrace.classify_rows(rows, 'bench_trees')"))
    clock('calls', lambda: sql("SELECT count(classify(f, 'bench_trees')) FROM all_stars"))
    clock('scan', lambda: sql('SELECT count(array_length(f, 1)) FROM all_stars'))
    clock('sk set', lambda: model.predict(x))
    clock('sk calls', lambda: [model.predict(x[i:i + 1]) for i in range(50)])
for key, n in (('set', len(x)), ('calls', len(x)), ('scan', len(x)), ('sk set', len(x)), ('sk calls', 50)):
    best[key] /= n
nodes = sql("SELECT metrics ->> 'nodes' FROM millrace.models WHERE name = 'bench_trees' ORDER BY version DESC LIMIT 1")[0]
print('prediction, 100 trees of %s nodes, 8 features, CPU time a row (reading the table alone: %.2f us)' % (nodes, best['scan'] * 1e6))
line('classify_rows() over arrays of 1000', 'set', 'sk set', 1e6, 'us')
line('classify(), a call a row', 'calls', 'sk calls', 1e6, 'us')
try:
    import shap
    explainer = shap.TreeExplainer(model)
    for r in range(args.rounds):
        clock('explain', lambda: sql("SELECT sum(contribution) FROM (SELECT f FROM all_stars LIMIT 10) s, LATERAL explain('bench_trees', f)"))
        clock('shap', lambda: explainer.shap_values(x[:10], check_additivity=False))
    best['explain'] /= 10
    best['shap'] /= 10
    line('explain(), against the shap package', 'explain', 'shap', 1e3, 'ms')
except ImportError:
    print('  no shap package: explanations left out')

if args.big:
    bx, by = make_classification(n_samples=1100000, n_features=30, n_informative=12, n_redundant=6, random_state=1)
    bx, by = bx.astype(np.float32), by.astype(str)
    copy('big', bx[:1000000], by[:1000000])
    train('1,000,000 x 30, random forest, %d' % args.trees, 'big', 'random_forest', lambda: RandomForestClassifier(args.trees),
          bx[:1000000], by[:1000000], bx[1000000:], by[1000000:], n_estimators=args.trees)
    train('1,000,000 x 30, extra trees, %d' % args.trees, 'big', 'extra_trees', lambda: ExtraTreesClassifier(args.trees),
          bx[:1000000], by[:1000000], bx[1000000:], by[1000000:], n_estimators=args.trees)
db.execute("SELECT millrace.drop_model('bench_trees')")
