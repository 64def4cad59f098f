#!/usr/bin/env python3
# timeout: 600
"""The learning core against scikit-learn on real data: SDSS17 (stars, galaxies, quasars) and handwritten digits.

unit/bin/lrn trains and predicts; both sides get the same float32 numbers.  Forests draw other random
numbers, so accuracy is compared over seeds: within 0.5 points.  Logistic regression and PCA have one
right answer: probabilities and projections within 1e-4.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

try:
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler
    from lib.learn import path, predict, run, sdss17, train
except ImportError as e:
    skip_all(str(e))

def compare_forest(name, x, y, seeds, points, **params):
    ours, theirs = [], []
    for seed in seeds:
        xa, xb, ya, yb = train_test_split(x, y, test_size=.2, random_state=seed)
        report = train('random_forest', xa, ya, random_state=seed, **params)
        p = predict(xb, y.max() + 1)
        m = RandomForestClassifier(random_state=seed, **params).fit(xa, ya)
        q = m.predict_proba(xb)
        ours.append([(p.argmax(1) == yb).mean(), f1_score(yb, p.argmax(1), average='macro')])
        theirs.append([(q.argmax(1) == yb).mean(), f1_score(yb, q.argmax(1), average='macro')])
        brier = [((a - np.eye(y.max() + 1)[yb]) ** 2).sum(1).mean() for a in (p, q)]
    nodes = sum(e.tree_.node_count for e in m.estimators_)
    a, b = np.mean(ours, 0), np.mean(theirs, 0)
    note('%s: accuracy %.4f / %.4f, macro F1 %.4f / %.4f, Brier %.4f / %.4f, nodes %d / %d' %
         (name, a[0], b[0], a[1], b[1], brier[0], brier[1], report['nodes'], nodes))
    ok(abs(a[0] - b[0]) <= points and abs(a[1] - b[1]) <= points, '%s: within %.1f points' % (name, points * 100))
    ok(abs(report['nodes'] / nodes - 1) < .1, '%s: forests of like size' % name)
    ok(np.allclose(p.sum(1), 1, atol=1e-5), '%s: probabilities sum to 1' % name)


def compare_logistic(name, x, y, **params):
    xa, xb, ya, yb = train_test_split(x, y, test_size=.2, random_state=0)
    # Both to the bottom: the optimum is what is compared.
    report = train('logistic_regression', xa, ya, tol=1e-10, max_iter=10000, **params)
    p = predict(xb, y.max() + 1)
    standardize = params.pop('standardize', False)
    scaler = StandardScaler().fit(xa.astype(float)) if standardize else None
    a, b = [scaler.transform(v.astype(float)) if scaler else v.astype(float) for v in (xa, xb)]
    m = LogisticRegression(solver='newton-cholesky', tol=1e-12, max_iter=1000, **params).fit(a, ya)
    worst = abs(p - m.predict_proba(b)).max()
    note('%s: %d iterations, largest difference %.1e' % (name, report['iterations'], worst))
    ok(worst < 1e-4, '%s: probabilities within 1e-4' % name)


def compare_pca(name, x, k, whiten=False, **params):
    report = train('pca', x, n_components=k, whiten=whiten, **params)
    m = PCA(k, whiten=whiten, svd_solver='full').fit(x.astype(float))
    p, q = predict(x, report['outputs']), m.transform(x.astype(float))
    ok(report['outputs'] == m.n_components_, '%s: %d components' % (name, m.n_components_))
    stored = run('info', path('model'))
    ok(np.allclose(stored['explained_variance'], m.explained_variance_, rtol=1e-7) and
       np.allclose(stored['explained_variance_ratio'], m.explained_variance_ratio_, rtol=1e-7),
       '%s: explained variance' % name)
    scale = abs(q).max(0)
    worst = (abs(p - q).max(0) / scale).max()
    note('%s: largest relative difference %.1e' % (name, worst))
    ok(worst < 1e-4, '%s: projections within 1e-4, signs included' % name)


digits = load_digits()
dx, dy = digits.data.astype(np.float32), digits.target
stars = sdss17()
if stars:
    sx, sy = stars
    compare_forest('SDSS17 forest', sx, sy, range(5), .005, n_estimators=100)
    compare_forest('SDSS17 without redshift, balanced, min_samples_leaf 5', sx[:, :7], sy, range(3), .005,
                   n_estimators=50, class_weight='balanced', min_samples_leaf=5)
    gaps = sx.copy()
    gaps[np.random.default_rng(0).random(gaps.shape) < .2] = np.nan
    compare_forest('SDSS17 with 20 % missing', gaps, sy, range(3), .005, n_estimators=50)
    for options in ({}, {'C': 100.0}, {'class_weight': 'balanced'}):
        compare_logistic('SDSS17 standardised %s' % options, sx, sy, standardize=True, **options)
    compare_logistic('SDSS17 raw columns', sx, sy)
    compare_logistic('SDSS17 two classes', sx, (sy == 0).astype(int), C=0.01)
    compare_logistic('SDSS17 no intercept', sx[:, 2:], sy, fit_intercept=False)
    compare_pca('SDSS17', sx, 4)
    compare_pca('SDSS17 whitened', sx, 8, whiten=True)
compare_forest('digits forest', dx, dy, range(6), .01, n_estimators=100, criterion='entropy', max_features='log2')
compare_logistic('digits', dx, dy, C=0.1)
compare_pca('digits, 20 components', dx, 20)
compare_pca('digits, 90 % of the variance', dx, 0.9)
wide = np.random.default_rng(1).normal(size=(300, 700)).astype(np.float32) @ np.diag(np.linspace(3, .1, 700)).astype(np.float32)
compare_pca('more columns than rows', wide, 30, svd_solver='full')
done()
