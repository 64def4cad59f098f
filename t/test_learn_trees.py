#!/usr/bin/env python3
# timeout: 900
"""Forests of all kinds against scikit-learn: extra trees, regression, weights, missing values, importances.

Random trees draw other numbers than scikit-learn's, so they are compared over seeds; a single tree on all
rows and features has one right answer (but for ties), so it is compared row by row.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

try:
    import numpy as np
    from sklearn.datasets import load_diabetes, load_digits
    from sklearn.ensemble import (ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier,
                                  RandomForestRegressor)
    from sklearn.metrics import f1_score, r2_score
    from sklearn.model_selection import train_test_split
    from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
    from lib.learn import path, predict, run, sdss17, train
except ImportError as e:
    skip_all(str(e))

def importances(x):
    x[:1].astype(np.float32).tofile(path('q'))
    return np.array(run('shap', path('model'), path('q'), 1, path('out'))['importances'])


def classify_over_seeds(name, algorithm, sklearn_class, x, y, seeds, points, weights=None, **params):
    ours, theirs, close = [], [], []
    for seed in seeds:
        split = train_test_split(x, y, np.ones(len(y)) if weights is None else weights, test_size=.2, random_state=seed)
        xa, xb, ya, yb, wa, wb = split
        report = train(algorithm, xa, ya, None if weights is None else wa, random_state=seed, **params)
        p = predict(xb, y.max() + 1)
        m = sklearn_class(random_state=seed, **params).fit(xa, ya, wa)
        q = m.predict_proba(xb)
        ours.append([(p.argmax(1) == yb).mean(), f1_score(yb, p.argmax(1), average='macro')])
        theirs.append([(q.argmax(1) == yb).mean(), f1_score(yb, q.argmax(1), average='macro')])
        close.append(abs(importances(xb) - m.feature_importances_).max())
    nodes = sum(e.tree_.node_count for e in m.estimators_)
    a, b = np.mean(ours, 0), np.mean(theirs, 0)
    note('%s: accuracy %.4f / %.4f, macro F1 %.4f / %.4f, nodes %d / %d, importances differ by %.3f at most' %
         (name, a[0], b[0], a[1], b[1], report['nodes'], nodes, max(close)))
    ok(abs(a[0] - b[0]) <= points and abs(a[1] - b[1]) <= points, '%s: within %.1f points' % (name, points * 100))
    # scikit-learn draws the bootstrap by the weights: fewer rows, smaller trees.
    ok(weights is not None or abs(report['nodes'] / nodes - 1) < .1, name + ': forests of like size')
    ok(max(close) < .05, name + ': like importances')


def regress_over_seeds(name, algorithm, sklearn_class, x, y, seeds, tolerance, **params):
    ours, theirs = [], []
    for seed in seeds:
        xa, xb, ya, yb = train_test_split(x, y, test_size=.2, random_state=seed)
        report = train(algorithm, xa, ya, random_state=seed, task='regression', **params)
        m = sklearn_class(random_state=seed, **params).fit(xa, ya)
        ours.append(r2_score(yb, predict(xb, 1)))
        theirs.append(m.score(xb, yb))
    nodes = sum(e.tree_.node_count for e in m.estimators_)
    note('%s: R2 %.4f / %.4f, nodes %d / %d, out of bag %s, %.2f s' %
         (name, np.mean(ours), np.mean(theirs), report['nodes'], nodes, report['oob_score'], report['seconds']))
    ok(abs(np.mean(ours) - np.mean(theirs)) <= tolerance, '%s: R2 within %.3f' % (name, tolerance))
    ok(abs(report['nodes'] / nodes - 1) < .1, name + ': forests of like size')
    return report


one_tree = dict(n_estimators=1, bootstrap=False, max_features=None)
rng = np.random.default_rng(0)
digits = load_digits()
dx, dy = digits.data.astype(np.float32), digits.target
noise = rng.normal(size=(1000, 6)).astype(np.float32)
kind = ((noise[:, 0] > 0).astype(int) + (noise[:, 1] + noise[:, 2] > 1) + (rng.random(1000) < .1)).clip(0, 2)
value = (noise[:, 0] * 3 + noise[:, 1] ** 2 + 50).astype(np.float32)
weights = rng.random(1000).astype(np.float32) * 5
weights[::10] = 0

# One tree has one right answer, where no two cuts are equally good: few levels, or weights that are all different.
for name, w, depth, extra in (('unweighted', None, 3, {}), ('entropy', None, 3, {'criterion': 'entropy'}),
                              ('weights of rows', weights, 6, {}),
                              ('entropy, weights', weights, 6, {'criterion': 'entropy'}),
                              ('weights of rows and classes', weights + 1, 6, {'class_weight': 'balanced'})):
    params = dict(extra, max_depth=depth, min_samples_leaf=20 if w is None else 10)
    train('random_forest', noise, kind, w, **one_tree, **params)
    # Rows of weight 0 count for scikit-learn's min_samples_leaf, and not here.
    keep = slice(None) if w is None else w > 0
    m = DecisionTreeClassifier(**params).fit(noise[keep], kind[keep], None if w is None else w[keep])
    ok(abs(predict(noise, 3) - m.predict_proba(noise)).max() < 1e-5, 'one tree, %s: as scikit-learn' % name)
    ok(abs(importances(noise) - m.feature_importances_).max() < 1e-5, 'one tree, %s: importances' % name)
for name, w in (('unweighted', None), ('weights of rows', weights)):
    train('random_forest', noise, value, w, task='regression', max_depth=4, min_samples_leaf=2, **one_tree)
    keep = slice(None) if w is None else w > 0
    m = DecisionTreeRegressor(max_depth=4, min_samples_leaf=2).fit(noise[keep], value[keep], None if w is None else w[keep])
    ok(abs(predict(noise, 1) - m.predict(noise)).max() < 1e-4, 'one regression tree, %s: as scikit-learn' % name)
    ok(abs(importances(noise) - m.feature_importances_).max() < 1e-5, 'one regression tree, %s: importances' % name)

gaps = noise.copy()
gaps[rng.random(noise.shape) < .2] = np.nan
train('random_forest', gaps, value, task='regression', max_depth=5, **one_tree)
m = DecisionTreeRegressor(max_depth=5).fit(gaps, value)
ok(abs(predict(gaps, 1) - m.predict(gaps)).max() < 1e-4, 'one regression tree with missing values: as scikit-learn')

# A row of weight 2 is two rows.
train('random_forest', noise, kind, np.where(np.arange(1000) % 2, 1, 2), max_depth=6, **one_tree)
p = predict(noise, 3)
train('random_forest', np.r_[noise, noise[::2]], np.r_[kind, kind[::2]], max_depth=6, **one_tree)
ok(abs(p - predict(noise, 3)).max() < 1e-6, 'a row of weight 2 is two rows')

# Extra trees with one feature: cuts are even between least and greatest.
line = np.arange(1001, dtype=np.float32)[:, None]
cuts = []
for seed in range(300):
    train('extra_trees', line, (line[:, 0] > 500).astype(int), n_estimators=1, max_depth=1, random_state=seed)
    cuts.append(run('trees', path('model'))['trees'][0]['nodes'][0][1])
ok(abs(np.mean(cuts) - 500) < 60 and abs(np.std(cuts) - 1000 / 12 ** .5) < 40, 'cuts of extra trees are drawn evenly')

classify_over_seeds('digits extra trees', 'extra_trees', ExtraTreesClassifier, dx, dy, range(5), .006, n_estimators=50)
classify_over_seeds('digits extra trees, entropy', 'extra_trees', ExtraTreesClassifier, dx, dy, range(3), .01,
                    n_estimators=50, criterion='entropy', min_samples_leaf=2)
diabetes = load_diabetes()
report = regress_over_seeds('diabetes forest', 'random_forest', RandomForestRegressor, diabetes.data, diabetes.target, range(10), .02)
m = RandomForestRegressor(oob_score=True, random_state=9).fit(diabetes.data, diabetes.target)
note('out of bag: %.3f here, %.3f scikit-learn on all rows' % (report['oob_score'], m.oob_score_))
ok(abs(report['oob_score'] - m.oob_score_) < .08, 'out-of-bag score of a regression')
regress_over_seeds('diabetes extra trees', 'extra_trees', ExtraTreesRegressor, diabetes.data, diabetes.target, range(10), .02)
gappy = diabetes.data.copy()
gappy[rng.random(gappy.shape) < .1] = np.nan
regress_over_seeds('diabetes extra trees with missing values', 'extra_trees', ExtraTreesRegressor, gappy, diabetes.target, range(10), .03)

stars = sdss17()
if stars:
    x, y = stars
    classify_over_seeds('SDSS17 extra trees', 'extra_trees', ExtraTreesClassifier, x, y, range(3), .003)
    classify_over_seeds('SDSS17 forest with weights', 'random_forest', RandomForestClassifier, x, y, range(2), .003,
                        weights=rng.random(len(y)), n_estimators=50)
    regress_over_seeds('SDSS17 redshift by forest', 'random_forest', RandomForestRegressor, x[:, 2:7], x[:, 7], range(2), .01,
                       n_estimators=20)
else:
    note('no ../shared/data/sdss17: left out')
done()
