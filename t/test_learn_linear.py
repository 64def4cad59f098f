#!/usr/bin/env python3
# timeout: 600
"""What has one right answer against scikit-learn: logistic regression and ridge with weights, nearest neighbours, k-means, PCA by projections.

Both sides get the same float32 numbers.  k-means and the randomised PCA
draw other random numbers: their results are held against the best there is.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

try:
    import numpy as np
    from sklearn.cluster import KMeans
    from sklearn.datasets import load_digits, make_blobs
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
    from sklearn.preprocessing import StandardScaler
    from lib.learn import predict, sdss17, train
except ImportError as e:
    skip_all(str(e))

rng = np.random.default_rng(0)


def ours(algorithm, x, y, q, outputs, weight=None, **params):
    """Report of a training on x and y, and answers to q, rows x outputs."""
    report = train(algorithm, x, y, weight, **params)
    return report, predict(q, outputs).reshape(len(q), outputs).astype(float)


def worst(name, a, b, limit, scale=1.0):
    difference = abs(np.asarray(a) - np.asarray(b)).max() / scale
    note('%s: largest difference %.1e' % (name, difference))
    ok(difference <= limit, '%s: within %g' % (name, limit))


def scaled(x, q, weight, standardize):
    """Both in double; "standardize" is a StandardScaler in front, which sees the weights too."""
    scaler = StandardScaler(with_mean=standardize, with_std=standardize).fit(x.astype(float), sample_weight=weight)
    return scaler.transform(x.astype(float)), scaler.transform(q.astype(float))


def logistic(name, x, y, q, weight=None, standardize=False, **params):
    _, p = ours('logistic_regression', x, y, q, int(y.max()) + 1, weight, tol=1e-10, max_iter=10000, standardize=standardize, **params)
    a, b = scaled(x, q, weight, standardize)
    m = LogisticRegression(solver='newton-cholesky', tol=1e-12, max_iter=1000, **params).fit(a, y, sample_weight=weight)
    worst('logistic regression, ' + name, p, m.predict_proba(b), 1e-4)


def ridge(name, x, y, q, weight=None, standardize=False, **params):
    _, p = ours('ridge', x, y, q, 1, weight, standardize=standardize, **params)
    a, b = scaled(x, q, weight, standardize)
    m = Ridge(solver='svd', **params).fit(a, y, sample_weight=weight)
    worst('ridge, ' + name, p[:, 0], m.predict(b), 1e-5, np.std(y))


def neighbours(name, x, y, q, **params):
    classes = y.dtype.kind == 'i'
    extra = {} if classes else {'task': 'regression'}
    if classes:
        extra['calibration'] = None
    _, p = ours('knn', x, y, q, int(y.max()) + 1 if classes else 1, **params, **extra)
    m = (KNeighborsClassifier if classes else KNeighborsRegressor)(algorithm='brute', **params).fit(x.astype(float), y)
    right = m.predict_proba(q.astype(float)) if classes else m.predict(q.astype(float))[:, None]
    # Rows at equal distance may be taken in another order.
    equal = (abs(p - right).max(1) < 1e-4 * max(1, np.std(y))).mean()
    note('nearest neighbours, %s: %.2f %% of the rows equal' % (name, equal * 100))
    ok(equal > .995, 'nearest neighbours, ' + name)


stars = sdss17()
if stars:
    x, y = stars[0][:12000, [2, 3, 4, 5, 6, 7, 0, 1]], stars[1][:12000]
    a, b, ya = x[:9000], x[9000:], y[:9000]
    weight = rng.exponential(size=len(a)).astype(np.float32)
    weight[::10] = 0
    logistic('weights of rows', a, ya, b, weight)
    logistic('weights of rows and classes', a, ya, b, weight, class_weight='balanced')
    logistic('weights, standardised, C 100', a, ya, b, weight, standardize=True, C=100.0)
    logistic('two classes with weights', a, (ya == 0).astype(int), b, weight, C=0.1)
    logistic('without intercept', a[:, 2:], ya, b[:, 2:], fit_intercept=False)
    logistic('standardised without intercept', a, ya, b, fit_intercept=False, standardize=True)
    value = x[:, 5].astype(float) + 3
    for name, options in (('alpha 1', {'alpha': 1.0}), ('alpha 1000', {'alpha': 1000.0}), ('without intercept', {'fit_intercept': False}),
                          ('standardised', {'standardize': True, 'alpha': 50.0}), ('standardised without intercept', {'standardize': True, 'fit_intercept': False})):
        ridge(name, a[:, :5], value[:9000], b[:, :5], **options)
    ridge('weights of rows', a[:, :5], value[:9000], b[:, :5], weight, alpha=10.0)
    scaler = StandardScaler().fit(a)
    sa, sb = scaler.transform(a).astype(np.float32), scaler.transform(b).astype(np.float32)
    for weights in ('uniform', 'distance'):
        for metric in ('euclidean', 'manhattan', 'cosine'):
            neighbours('%s, %s' % (weights, metric), sa, ya, sb, n_neighbors=7, weights=weights, metric=metric)
    neighbours('values by distance', sa[:, :5], value[:9000].astype(np.float32).astype(float), sb[:, :5], n_neighbors=15, weights='distance')
    best = min(KMeans(8, n_init=10, random_state=s).fit(sa.astype(float)).inertia_ for s in range(2))
    report, _ = ours('kmeans', sa, None, sb, 8, n_clusters=8, n_init=10)
    note('k-means on SDSS17: inertia %.0f, scikit-learn %.0f' % (report['loss'], best))
    ok(report['loss'] < best * 1.01, 'k-means on SDSS17: inertia within 1 % of scikit-learn\'s best of 20')

wide = rng.normal(size=(120, 400)).astype(np.float32)
for name, options in (('more columns than rows', {}), ('more columns than rows, standardised without intercept', {'standardize': True, 'fit_intercept': False})):
    ridge(name, wide[:100], wide[:100, :5].sum(1).astype(float) + rng.normal(size=100), wide[100:], alpha=3.0, **options)

points, group = make_blobs(3000, 6, centers=12, cluster_std=.4, random_state=3)
points = points.astype(np.float32)
report, distance = ours('kmeans', points, None, points, 12, n_clusters=12, n_init=4)
m = KMeans(12, n_init=10, random_state=0).fit(points.astype(float))
# The same clusters by other numbers; distances to the centres as transform() gives them.
pairs = set(zip(distance.argmin(1), m.labels_))
ok(len(pairs) == 12, 'k-means finds twelve clusters that are there')
theirs = m.transform(points.astype(float))
worst('k-means, distances to centres', distance[:, [o for o, _ in sorted(pairs)]], theirs[:, [t for _, t in sorted(pairs)]], 1e-3)
worst('k-means, inertia', report['loss'], m.inertia_, 1e-4, m.inertia_)

digits = load_digits().data.astype(np.float32)
for whiten in (False, True):
    report, p = ours('pca', digits, None, digits, 10, n_components=10, svd_solver='randomized', whiten=whiten)
    m = PCA(10, svd_solver='full', whiten=whiten).fit(digits.astype(float))
    q = m.transform(digits.astype(float))
    worst('randomised PCA%s, first five projections' % (', whitened' if whiten else ''), abs(p[:, :5]), abs(q[:, :5]), 2e-2, abs(q).max())
    kept = m.explained_variance_ratio_.sum()
    note('variance kept %.6f, at most %.6f' % (report['variance_kept'], kept))
    ok(kept * .999 <= report['variance_kept'] <= kept * 1.000001, 'randomised PCA: the variance of the best ten directions')
    if whiten:
        worst('whitened: deviations of 1', p.std(0, ddof=1), 1, 1e-2)
done()
