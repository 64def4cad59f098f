#!/usr/bin/env python3
# timeout: 600
"""Gradient boosting against LightGBM, or scikit-learn where that is not installed, on SDSS17: within 0.3 points."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

try:
    import numpy as np
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import f1_score
    from sklearn.model_selection import train_test_split
    from lib.learn import predict, sdss17, train
except ImportError as e:
    skip_all(str(e))
try:
    from lightgbm import LGBMClassifier
except ImportError:
    LGBMClassifier = None

stars = sdss17()
if not stars:
    skip_all('no SDSS17')
x, y = stars


def figures(truth, p):
    return [(p.argmax(1) == truth).mean(), f1_score(truth, p.argmax(1), average='macro')]


ours, theirs = [], []
for seed in range(10):
    xa, xb, ya, yb = train_test_split(x, y, test_size=.2, random_state=seed)
    train('gradient_boosting', xa, ya)
    p = predict(xb, 3)
    peer = LGBMClassifier(n_jobs=1, verbose=-1) if LGBMClassifier else HistGradientBoostingClassifier(early_stopping=False)
    ours.append(figures(yb, p))
    theirs.append(figures(yb, peer.fit(xa, ya).predict_proba(xb)))
a, b = np.mean(ours, 0), np.mean(theirs, 0)
note('accuracy %.4f / %.4f, macro F1 %.4f / %.4f (%s)' % (a[0], b[0], a[1], b[1], 'LightGBM' if LGBMClassifier else 'scikit-learn'))
ok((a > b - .003).all(), 'SDSS17, ten seeds: at most 0.3 points below')
ok(np.allclose(p.sum(1), 1, atol=1e-5), 'probabilities sum to 1')
done()
