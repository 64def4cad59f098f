#!/usr/bin/env python3
# timeout: 600
"""TreeSHAP against the shap package, on the very same trees: unit/bin/lrn dumps what the view of a model's
trees gives, shap explains that, and both explain the same rows.  Within 1e-6, sums are the model's answers.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

try:
    import numpy as np
    import shap
    from lib.learn import path, predict, run, train
except ImportError as e:
    skip_all(str(e))

def as_shap(view):
    """shap's own form of a model: each tree as arrays by node."""
    trees = []
    for t in view['trees']:
        n = t['nodes']
        inner = [a[0] >= 0 for a in n]
        values = np.zeros((len(n), view['margins']))
        for i, a in enumerate(n):
            if not inner[i]:
                if t['margin'] < 0:
                    values[i] = a[7]
                else:
                    values[i, t['margin']], = a[7]
        # Means of inner nodes by cover: shap takes the expected value from the root.
        for i in reversed(range(len(n))):
            if inner[i]:
                values[i] = sum(values[c] * n[c][5] for c in n[i][3:5]) / n[i][5]
        trees.append({
            'children_left': np.array([a[3] if k else -1 for a, k in zip(n, inner)]),
            'children_right': np.array([a[4] if k else -1 for a, k in zip(n, inner)]),
            'children_default': np.array([(a[3] if a[2] else a[4]) if k else -1 for a, k in zip(n, inner)]),
            'features': np.array([max(a[0], 0) for a in n]),
            'thresholds': np.array([a[1] for a in n], np.float64),
            'values': values * view['scale'],
            'node_sample_weight': np.array([a[5] for a in n]),
        })
    return {'trees': trees, 'internal_dtype': np.float64, 'input_dtype': np.float32, 'objective': 'squared_error',
            'tree_output': 'raw_value', 'base_offset': np.array(view['base']) if view['margins'] > 1 else view['base'][0]}


def sigmoid(margins):
    return np.hstack([1 / (1 + np.exp(margins)), 1 / (1 + np.exp(-margins))])


def softmax(margins):
    e = np.exp(margins - margins.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def compare(name, x, q, link=lambda margins: margins):
    """Explain rows q of the model; link: from its margins to what predict gives."""
    view = run('trees', path('model'))
    k = view['margins']
    q.astype(np.float32).tofile(path('q'))
    told = run('shap', path('model'), path('q'), len(q), path('out'))
    ours = np.fromfile(path('out'), np.float64).reshape(len(q), x.shape[1] + 1, k)
    explainer = shap.TreeExplainer(as_shap(view), feature_perturbation='tree_path_dependent')
    theirs = np.asarray(explainer.shap_values(q.astype(np.float64), check_additivity=False)).reshape(len(q), x.shape[1], k)
    worst = abs(ours[:, :-1] - theirs).max()
    expected = abs(ours[0, -1] - np.ravel(explainer.expected_value)).max()
    told_sums = link(ours.sum(1))
    answers = predict(q, told_sums.shape[1]).reshape(told_sums.shape)
    gap = (abs(told_sums - answers) / np.maximum(1, abs(answers))).max()
    note('%s: largest difference %.1e, of the expected value %.1e, of the sum %.1e; %.0f us a row' %
         (name, worst, expected, gap, told['row_us']))
    scale = max(1, abs(theirs).max())
    ok(worst < 1e-6 * scale and expected < 1e-6 * scale, name + ': as the shap package says')
    ok(gap < 2e-6, name + ': sums to the answer')
    ok(abs(sum(told['importances']) - 1) < 1e-9, name + ': importances sum to 1')


rng = np.random.default_rng(3)
x = rng.normal(size=(1500, 8)).astype(np.float32)
y = (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(int) + (x[:, 3] > 1)
value = 100 + 3 * x[:, 0] - x[:, 1] ** 2 + rng.normal(size=1500) * .1
gaps = x.copy()
gaps[rng.random(x.shape) < .1] = np.nan
weights = rng.random(1500) * 3
q, gap_rows = x[:40], gaps[:40]

train('random_forest', x, y, n_estimators=20)
compare('random forest', x, q)
train('random_forest', gaps, y, n_estimators=20, max_depth=7)
compare('with missing values', x, gap_rows)
train('random_forest', x, y, weights, n_estimators=20, class_weight='balanced')
compare('with weights of rows and classes', x, q)
train('extra_trees', gaps, y, n_estimators=20)
compare('extra trees', x, gap_rows)
train('random_forest', x, value, n_estimators=20, task='regression')
compare('regression', x, q)
train('extra_trees', x, value, n_estimators=20, task='regression')
compare('regression, extra trees', x, q)
train('gradient_boosting', x, y, n_estimators=30)
compare('boosting, three classes', x, q, softmax)
train('gradient_boosting', gaps, y > 0, n_estimators=30)
compare('boosting, two classes, missing values', x, gap_rows, sigmoid)
train('gradient_boosting', x, y, weights, n_estimators=30, class_weight='balanced')
compare('boosting with weights of rows and classes', x, q, softmax)
train('gradient_boosting', gaps, value, n_estimators=30, task='regression')
compare('boosting, regression, missing values', x, gap_rows)
train('random_forest', x[:, :1], y, n_estimators=3)
compare('one feature', x[:, :1], q[:, :1])
done()
