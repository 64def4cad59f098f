#!/usr/bin/env python3
"""Learners against scikit-learn and ONNX Runtime: one core, same data, ratios from one run.

    taskset -c 1 bench/learn.py [--rounds N] [--features train.npy test.npy train_labels.npy test_labels.npy]

Needs unit/bin/lrn (make tools), numpy, scikit-learn, skl2onnx, onnxruntime, and ../shared/data.  Rounds
interleave the competitors and the least time of each counts, so that other work on the machine hurts all.
Single-row figures of Python libraries include their call from Python; ours is the C call.
"""
import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time

for v in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[v] = '1'
import numpy as np
import onnxruntime as ort
from skl2onnx import to_onnx
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.path.join(ROOT, 'unit/bin/lrn')
DATA = os.environ.get('MILLRACE_DATA', os.path.join(ROOT, '../shared/data'))
tmp = tempfile.TemporaryDirectory()


def path(name):
    return os.path.join(tmp.name, name)


def run(*args):
    return json.loads(subprocess.check_output([TOOL] + [str(a) for a in args]))


def clock(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def onnx_session(model, xa):
    options = {id(model): {'zipmap': False}} if hasattr(model, 'predict_proba') else {}
    so = ort.SessionOptions()
    so.intra_op_num_threads = so.inter_op_num_threads = 1
    return ort.InferenceSession(to_onnx(model, xa[:1], options=options).SerializeToString(), so,
                                providers=['CPUExecutionProvider'])


def compare(title, algorithm, make, ours, xa, ya, xb, yb, rounds):
    xa.astype(np.float32).tofile(path('xa'))
    xb.astype(np.float32).tofile(path('xb'))
    xa64, xb64, xb32 = xa.astype(np.float64), xb.astype(np.float64), xb.astype(np.float32)
    classes = 0
    if ya is not None:
        ya.astype(np.int32).tofile(path('ya'))
        classes = ya.max() + 1
    best = {}

    def least(key, seconds):
        best[key] = min(best.get(key, np.inf), seconds)

    args = ['%s=%s' % kv for kv in ours.items()]
    for r in range(rounds):
        report = run('train', algorithm, path('xa'), len(xa), xa.shape[1], path('ya') if classes else '-', classes, path('m'), *args)
        least('train', report['seconds'])
        model = make()
        least('sk train', clock(lambda: model.fit(xa64, ya) if classes else model.fit(xa64)))
        call = model.predict_proba if classes else model.transform
        session = onnx_session(model, xa.astype(np.float32)) if r == 0 else session
        name = session.get_inputs()[0].name
        wanted = [session.get_outputs()[-1].name]
        for isa in ('portable', 'avx2', 'avx512'):
            p = run('predict', path('m'), path('xb'), len(xb), path('out'), isa)
            least('batch ' + p['isa'], p['batch_ns'] * 1e-9)
            least('single ' + p['isa'], p['single_ns'] * 1e-9)
            last = p
        least('sk batch', clock(lambda: call(xb64)) / len(xb))
        least('ort batch', clock(lambda: session.run(wanted, {name: xb32})) / len(xb))
        n = 30 if algorithm == 'random_forest' else 300
        least('sk single', clock(lambda: [call(xb64[i:i + 1]) for i in range(n)]) / n)
        least('ort single', clock(lambda: [session.run(wanted, {name: xb32[i:i + 1]}) for i in range(300)]) / 300)
    isa = last['isa']
    print('\n%s: %d x %d, %d rows to predict; file %.1f MB, opened in %.2f ms' %
          (title, len(xa), xa.shape[1], len(xb), last['file_bytes'] / 1e6, last['open_s'] * 1e3))
    if classes:
        out = np.fromfile(path('out'), np.float32).reshape(len(xb), -1)
        print('  accuracy: millrace %.4f, scikit-learn %.4f' % ((out.argmax(1) == yb).mean(), model.score(xb64, yb)))
    line = '  %-10s millrace %10s   scikit-learn %10s (x %.2f)%s'
    print(line % ('train', '%.3f s' % best['train'], '%.3f s' % best['sk train'], best['train'] / best['sk train'], ''))
    for kind, unit in (('batch', 1e9), ('single', 1e9)):
        key = kind + ' ' + isa
        print(line % (kind, '%.0f ns' % (best[key] * unit), '%.0f ns' % (best['sk ' + kind] * unit), best[key] / best['sk ' + kind],
                      '   ONNX Runtime %10s (x %.2f)' % ('%.0f ns' % (best['ort ' + kind] * unit), best[key] / best['ort ' + kind])))
    print('  by instruction set, batch / single ns: ' + ', '.join(
        '%s %.0f / %.0f' % (i, best['batch ' + i] * 1e9, best['single ' + i] * 1e9)
        for i in ('portable', 'avx2', 'avx512') if 'batch ' + i in best))
    sys.stdout.flush()


parser = argparse.ArgumentParser()
parser.add_argument('--rounds', type=int, default=3)
parser.add_argument('--features', nargs=4)
args = parser.parse_args()

rows = list(csv.DictReader(open(os.path.join(DATA, 'sdss17/star_classification.csv'))))
x = np.array([[r[c] for c in 'alpha delta u g r i z redshift'.split()] for r in rows], dtype=np.float32)
y = np.unique([r['class'] for r in rows], return_inverse=True)[1]
xa, xb, ya, yb = train_test_split(x, y, test_size=.2, random_state=0)
compare('SDSS17, random forest, 100 trees', 'random_forest', lambda: RandomForestClassifier(random_state=0), {},
        xa, ya, xb, yb, args.rounds)
mean, deviation = xa.mean(0), xa.std(0)
compare('SDSS17 standardised, logistic regression', 'logistic_regression', lambda: LogisticRegression(max_iter=1000), {'max_iter': 1000},
        (xa - mean) / deviation, ya, (xb - mean) / deviation, yb, args.rounds)
compare('SDSS17, PCA', 'pca', lambda: PCA(4), {'n_components': 4}, xa, None, xb, None, args.rounds)
wide = (np.random.default_rng(0).normal(size=(3000, 1280)) * np.linspace(3, .1, 1280)).astype(np.float32)
compare('noise as wide as MobileNetV2, PCA of 20', 'pca', lambda: PCA(20, svd_solver='covariance_eigh'), {'n_components': 20},
        wide[:2000], None, wide[2000:], None, args.rounds)
if args.features:
    fa, fb, la, lb = [np.load(f) for f in args.features]
    compare('CIFAR-10 features, PCA of 20', 'pca', lambda: PCA(20), {'n_components': 20}, fa, None, fb, None, args.rounds)
    pca = PCA(20).fit(fa)
    pa, pb = pca.transform(fa).astype(np.float32), pca.transform(fb).astype(np.float32)
    compare('CIFAR-10 PCA-20, logistic regression', 'logistic_regression', lambda: LogisticRegression(max_iter=1000), {'max_iter': 1000},
            pa, la, pb, lb, args.rounds)
    compare('CIFAR-10 PCA-20, random forest, 100 trees', 'random_forest', lambda: RandomForestClassifier(random_state=0), {},
            pa, la, pb, lb, 1)
