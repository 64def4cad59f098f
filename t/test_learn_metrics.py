#!/usr/bin/env python3
# timeout: 600
"""The metric aggregates against scikit-learn on random data: many classes, ties, rare classes, perfect and useless scores."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.cluster import Cluster, find_pg_config
from lib.tap import done, note, ok, skip_all

try:
    import numpy as np
    from sklearn import metrics as sk
    from sklearn.calibration import calibration_curve
except ImportError as e:
    skip_all(str(e))

rng = np.random.default_rng(0)
folder = os.environ.get('MILLRACE_TMP', 'tmp/test_learn_metrics')


def near(a, b, tolerance=1e-10):
    return abs(float(a) - b) <= tolerance * max(1, abs(b))


def check(c, name, sql, expected):
    """One row of numbers against a dictionary in the same order."""
    row = c.psql(sql)[0]
    wrong = [(k, got, want) for got, (k, want) in zip(row, expected.items()) if not near(got, want)]
    if not ok(not wrong and len(row) == len(expected), name):
        note(wrong)


def table(c, name, columns, rows):
    c.psql('CREATE TABLE %s (%s)' % (name, columns))
    for first in range(0, len(rows), 2000):
        c.psql('INSERT INTO %s VALUES %s' % (name, ','.join(rows[first:first + 2000])))


def labels(c, name, classes, n, rightness):
    truth = rng.choice(classes, n, p=rng.dirichlet(np.ones(classes)))
    predicted = np.where(rng.random(n) < rightness, truth, rng.integers(0, classes, n))
    truth, predicted = ['c%d' % t for t in truth], ['c%d' % p for p in predicted]
    table(c, name, 'truth text, predicted text', ["('%s','%s')" % pair for pair in zip(truth, predicted)])
    expected = {'accuracy': sk.accuracy_score(truth, predicted), 'balanced': sk.recall_score(truth, predicted, average='macro', labels=sorted(set(truth))),
                'kappa': sk.cohen_kappa_score(truth, predicted), 'mcc': sk.matthews_corrcoef(truth, predicted)}
    calls = ['accuracy', 'balanced_accuracy', 'cohen_kappa', 'mcc']
    sql = ['millrace.%s(truth, predicted)' % f for f in calls]
    for f, score in (('precision', sk.precision_score), ('recall', sk.recall_score), ('f1', sk.f1_score)):
        for average in ('macro', 'micro', 'weighted'):
            expected[f + average] = score(truth, predicted, average=average, zero_division=0)
            sql.append("millrace.%s(truth, predicted, '%s')" % (f, average))
        expected[f + ' of c1'] = score(truth, predicted, average=None, labels=['c1'], zero_division=0)[0]
        sql.append("millrace.%s(truth, predicted, 'binary', 'c1')" % f)
    check(c, '%d classes: %d figures' % (classes, len(sql)), 'SELECT %s FROM %s' % (', '.join(sql), name), expected)
    matrix = sk.confusion_matrix(truth, predicted)
    cells = c.psql('SELECT count FROM millrace.confusion_cells((SELECT millrace.confusion_matrix(truth, predicted) FROM %s))' % name)
    ok([int(x[0]) for x in cells] == list(matrix.ravel()), '%d classes: confusion matrix' % classes)


def curve(c, sql):
    return np.array(c.psql(sql), dtype=float)


def scores(c, name, y, p):
    table(c, name, 'y boolean, p double precision', ["(%s,'%r')" % (bool(a), float(b)) for a, b in zip(y, p)])
    fraction, mean = calibration_curve(y, p, n_bins=10)
    edge = np.linspace(0, 1, 16)
    b = np.searchsorted(edge[1:-1], p)
    ece = sum(abs(p[b == i].sum() - y[b == i].sum()) for i in range(15)) / len(y)
    check(c, name + ': six figures',
          'SELECT millrace.roc_auc(y, p), millrace.average_precision(y, p), millrace.pr_auc(y, p), millrace.log_loss(y, p), '
          'millrace.brier_score(y, p), millrace.calibration_error(y, p, 15) FROM ' + name,
          {'roc': sk.roc_auc_score(y, p), 'ap': sk.average_precision_score(y, p), 'pr': sk.average_precision_score(y, p),
           'log loss': sk.log_loss(y, p), 'brier': sk.brier_score_loss(y, p), 'ece': ece})
    got = curve(c, 'SELECT u.false_positive_rate, u.true_positive_rate, u.threshold FROM (SELECT millrace.roc_curve(y, p) AS c FROM %s) q, unnest(c) u' % name)
    fpr, tpr, threshold = sk.roc_curve(y, p)
    theirs = set(zip(np.round(fpr, 12), np.round(tpr, 12), threshold))
    ok(all(tuple(point) in theirs for point in zip(np.round(got[:, 0], 12), np.round(got[:, 1], 12), got[:, 2])) and
       near(np.trapezoid(got[:, 1], got[:, 0]), sk.roc_auc_score(y, p)), name + ': the ROC curve, point by point')
    got = curve(c, 'SELECT u.recall, u.precision, u.threshold FROM (SELECT millrace.pr_curve(y, p) AS c FROM %s) q, unnest(c) u' % name)
    precision, recall, threshold = sk.precision_recall_curve(y, p, drop_intermediate=True)
    theirs = dict(zip(threshold, zip(recall, precision)))
    ok(all(t in theirs and near(theirs[t][0], r) and near(theirs[t][1], q) for r, q, t in got[1:]), name + ': the precision-recall curve, point by point')
    got = curve(c, 'SELECT u.frequency, u.mean_probability FROM (SELECT millrace.calibration_curve(y, p) AS c FROM %s) q, unnest(c) u' % name)
    ok(len(got) == len(fraction) and np.allclose(got, np.c_[fraction, mean], atol=1e-12), name + ': the calibration curve')
    thin = curve(c, 'SELECT u.false_positive_rate, u.true_positive_rate FROM (SELECT millrace.roc_curve(y, p, 50) AS c FROM %s) q, unnest(c) u' % name)
    ok(len(thin) <= 50 and abs(np.trapezoid(thin[:, 1], thin[:, 0]) - sk.roc_auc_score(y, p)) < 2e-3 and tuple(thin[-1]) == (1, 1),
       name + ': fifty points say nearly the same')


with Cluster(find_pg_config(), os.path.join(folder, 'pg')) as c:
    c.psql('CREATE EXTENSION millrace')
    labels(c, 'few', 3, 5000, .8)
    labels(c, 'many', 60, 5000, .5)
    labels(c, 'useless', 4, 3000, 0)

    y = rng.random(8000) < .3
    scores(c, 'smooth', y, np.clip(rng.beta(2, 4, 8000) + .25 * y, 0, 1))
    scores(c, 'ties', y, np.round(np.clip(rng.beta(2, 4, 8000) + .25 * y, 0, 1), 1))
    scores(c, 'rare', np.arange(8000) % 1000 == 0, rng.random(8000))
    scores(c, 'perfect', y, np.where(y, .9, .2))

    p = rng.dirichlet(np.ones(5), 4000)
    t = (p + rng.dirichlet(np.ones(5), 4000)).argmax(1)
    table(c, 'five', 'truth text, p double precision[]', ["('%d','{%s}')" % (a, ','.join(map(repr, map(float, b)))) for a, b in zip(t, p)])
    check(c, 'probabilities of five classes', "SELECT millrace.log_loss(truth, p, '{0,1,2,3,4}'), millrace.brier_score(truth, p, '{0,1,2,3,4}') FROM five",
          {'log loss': sk.log_loss(t, p), 'brier': ((p - np.eye(5)[t]) ** 2).sum(1).mean()})

    truth = rng.normal(1000, 3, 5000)
    predicted = truth + rng.normal(0, 2, 5000)
    table(c, 'numbers', 'truth float8, predicted float8', ['(%r,%r)' % (float(a), float(b)) for a, b in zip(truth, predicted)])
    check(c, 'values', 'SELECT millrace.mean_absolute_error(truth, predicted), millrace.mean_squared_error(truth, predicted), '
          'millrace.root_mean_squared_error(truth, predicted), millrace.r2(truth, predicted) FROM numbers',
          {'mae': sk.mean_absolute_error(truth, predicted), 'mse': sk.mean_squared_error(truth, predicted),
           'rmse': sk.mean_squared_error(truth, predicted) ** .5, 'r2': sk.r2_score(truth, predicted)})
done()
