#!/usr/bin/env python3
# lane: unit
# timeout: 600
"""Gradient boosting against LightGBM, or scikit-learn where that is not installed, on SDSS17: within 0.3 points."""
import csv
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import data, done, note, ok, skip_all

try:
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import f1_score
    from sklearn.model_selection import train_test_split
except ImportError as e:
    skip_all(str(e))
try:
    from lightgbm import LGBMClassifier
except ImportError:
    LGBMClassifier = None

TOOL = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'unit/bin/lrn')
file = data('sdss17/star_classification.csv')
if not file:
    skip_all('no SDSS17')
tmp = tempfile.TemporaryDirectory()
rows = list(csv.DictReader(open(file)))
x = np.array([[r[c] for c in 'alpha delta u g r i z redshift'.split()] for r in rows], dtype=np.float32)
y = np.unique([r['class'] for r in rows], return_inverse=True)[1].astype(np.int32)


def path(name):
    return os.path.join(tmp.name, name)


def figures(truth, p):
    return [(p.argmax(1) == truth).mean(), f1_score(truth, p.argmax(1), average='macro')]


ours, theirs = [], []
for seed in range(10):
    xa, xb, ya, yb = train_test_split(x, y, test_size=.2, random_state=seed)
    for name, a in (('xa', xa), ('xb', xb), ('ya', ya)):
        a.tofile(path(name))
    subprocess.check_output([TOOL, 'train', 'gradient_boosting', path('xa'), str(len(xa)), '8', path('ya'), '3', path('m')])
    subprocess.check_output([TOOL, 'predict', path('m'), path('xb'), str(len(xb)), path('out')])
    p = np.fromfile(path('out'), np.float32).reshape(-1, 3)
    peer = LGBMClassifier(n_jobs=1, verbose=-1) if LGBMClassifier else HistGradientBoostingClassifier(early_stopping=False)
    ours.append(figures(yb, p))
    theirs.append(figures(yb, peer.fit(xa, ya).predict_proba(xb)))
a, b = np.mean(ours, 0), np.mean(theirs, 0)
note('accuracy %.4f / %.4f, macro F1 %.4f / %.4f (%s)' % (a[0], b[0], a[1], b[1], 'LightGBM' if LGBMClassifier else 'scikit-learn'))
ok((a > b - .003).all(), 'SDSS17, ten seeds: at most 0.3 points below')
ok(np.allclose(p.sum(1), 1, atol=1e-5), 'probabilities sum to 1')
done()
