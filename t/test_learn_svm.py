#!/usr/bin/env python3
# lane: unit
# timeout: 300
"""Support vector machines and calibration against scikit-learn on SDSS17: SVC, LinearSVC, CalibratedClassifierCV.

The machines have one right answer: their scores agree, within the solvers' tolerance.  Folds of the
calibration are drawn otherwise, so that its log-loss is compared.
"""
import csv
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import data, done, note, ok, skip_all

try:
    import numpy as np
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.metrics import log_loss
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC, LinearSVC
except ImportError as e:
    skip_all(str(e))

FILE = data('sdss17/star_classification.csv')
if not FILE:
    skip_all('no SDSS17')
TOOL = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'unit/bin/lrn')
tmp = tempfile.TemporaryDirectory()
rows = list(csv.DictReader(open(FILE)))[:8000]
x = np.array([[r[c] for c in 'alpha delta u g r i z redshift'.split()] for r in rows], dtype=np.float32)
y = np.unique([r['class'] for r in rows], return_inverse=True)[1]
xa, xb, ya, yb = train_test_split(x, y, test_size=.3, random_state=0)
scaler = StandardScaler().fit(xa.astype(float))
A, B = scaler.transform(xa.astype(float)), scaler.transform(xb.astype(float))


def predict(algorithm, *options):
    path = [os.path.join(tmp.name, n) for n in ('xa', 'ya', 'xb', 'model', 'out')]
    xa.tofile(path[0])
    ya.astype(np.int32).tofile(path[1])
    xb.tofile(path[2])
    subprocess.check_output([TOOL, 'train', algorithm, path[0], str(len(xa)), '8', path[1], '3', path[3], 'standardize=true', *options])
    subprocess.check_output([TOOL, 'predict', path[3], path[2], str(len(xb)), path[4]])
    return np.fromfile(path[4], np.float32).reshape(len(xb), 3).astype(float)


def softmax(d):
    e = np.exp(d - d.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


for options, peer in (((), {}), (('C=10', 'class_weight=balanced'), {'C': 10, 'class_weight': 'balanced'}),
                      (('gamma=auto',), {'gamma': 'auto'}), (('gamma=0.5',), {'gamma': .5})):
    p = predict('rbf_svm', 'calibration=null', 'tol=1e-5', *options)
    m = SVC(tol=1e-5, **peer).fit(A, ya)
    # Votes near a border may differ; all else is the same.
    away = abs(p - softmax(m.decision_function(B))).max(1)
    ok(np.quantile(away, .999) < 1e-3 and (p.argmax(1) == m.predict(B)).mean() > .999, 'SVC %s: %.1e' % (peer, away.max()))
for options, peer in (((), {}), (('C=0.1', 'class_weight=balanced'), {'C': .1, 'class_weight': 'balanced'}),
                      (('fit_intercept=false',), {'fit_intercept': False})):
    p = predict('linear_svm', 'calibration=null', 'tol=1e-9', *options)
    m = LinearSVC(tol=1e-9, max_iter=10000, **peer).fit(A, ya)
    ok(abs(p - softmax(m.decision_function(B))).max() < 1e-4, 'LinearSVC %s' % peer)
for kind in ('sigmoid', 'isotonic'):
    p = predict('rbf_svm', 'calibration=' + kind)
    q = CalibratedClassifierCV(SVC(), method=kind, cv=5, ensemble=False).fit(A, ya).predict_proba(B)
    a, b = [log_loss(yb, np.clip(v, 1e-15, 1) / v.sum(1, keepdims=True)) for v in (p, q)]
    note('%s: log-loss %.4f, scikit-learn %.4f' % (kind, a, b))
    ok(abs(p - q).mean() < .01 and abs(p.sum(1) - 1).max() < 1e-5, 'calibration %s' % kind)
done()
