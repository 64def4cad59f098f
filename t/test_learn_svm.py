#!/usr/bin/env python3
# timeout: 300
"""Support vector machines and calibration against scikit-learn on SDSS17: SVC, LinearSVC, CalibratedClassifierCV.

The machines have one right answer: their scores agree, within the solvers' tolerance.  Folds of the
calibration are drawn otherwise, so that its log-loss is compared.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

try:
    import numpy as np
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.metrics import log_loss
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC, LinearSVC
    from lib.learn import predict, sdss17, train
except ImportError as e:
    skip_all(str(e))

stars = sdss17()
if not stars:
    skip_all('no SDSS17')
x, y = [v[:8000] for v in stars]
xa, xb, ya, yb = train_test_split(x, y, test_size=.3, random_state=0)
scaler = StandardScaler().fit(xa.astype(float))
A, B = scaler.transform(xa.astype(float)), scaler.transform(xb.astype(float))


def answers(algorithm, **options):
    train(algorithm, xa, ya, standardize=True, **options)
    return predict(xb, 3).astype(float)


def softmax(d):
    e = np.exp(d - d.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


for options in ({}, {'C': 10, 'class_weight': 'balanced'}, {'gamma': 'auto'}, {'gamma': .5}):
    p = answers('rbf_svm', calibration=None, tol=1e-5, **options)
    m = SVC(tol=1e-5, **options).fit(A, ya)
    # Votes near a border may differ; all else is the same.
    away = abs(p - softmax(m.decision_function(B))).max(1)
    ok(np.quantile(away, .999) < 1e-3 and (p.argmax(1) == m.predict(B)).mean() > .999, 'SVC %s: %.1e' % (options, away.max()))
for options in ({}, {'C': .1, 'class_weight': 'balanced'}, {'fit_intercept': False}):
    p = answers('linear_svm', calibration=None, tol=1e-9, **options)
    m = LinearSVC(tol=1e-9, max_iter=10000, **options).fit(A, ya)
    ok(abs(p - softmax(m.decision_function(B))).max() < 1e-4, 'LinearSVC %s' % options)
for kind in ('sigmoid', 'isotonic'):
    p = answers('rbf_svm', calibration=kind)
    q = CalibratedClassifierCV(SVC(), method=kind, cv=5, ensemble=False).fit(A, ya).predict_proba(B)
    a, b = [log_loss(yb, np.clip(v, 1e-15, 1) / v.sum(1, keepdims=True)) for v in (p, q)]
    note('%s: log-loss %.4f, scikit-learn %.4f' % (kind, a, b))
    ok(abs(p - q).mean() < .01 and abs(p.sum(1) - 1).max() < 1e-5, 'calibration %s' % kind)
done()
