# timeout: 400
"""ai.onnx.ml: scikit-learn's models over the SDSS17 table, and hand-made trees, against ONNX Runtime.

Labels are the same ones, numbers within 1e-5 of the largest; trees add the same floats in the same order.
"""
import csv
import os
import random
import subprocess
import sys
import warnings

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import data, done, note, ok, skip_all

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.path.join(ROOT, 'unit', 'bin', 'nn_run')
table = data('sdss17/star_classification.csv')
if not table:
    skip_all('no SDSS17 table')
try:
    import numpy as np
    import onnxruntime
    from onnx import helper, numpy_helper
    from skl2onnx import to_onnx
    from sklearn import ensemble, linear_model, naive_bayes, neural_network, preprocessing, svm, tree
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
except ImportError as e:
    skip_all(str(e))
warnings.filterwarnings('ignore')

folder = os.environ.get('MILLRACE_TMP', 'tmp/test_nn_ml')
os.makedirs(folder, exist_ok=True)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 4
names = ['GALAXY', 'QSO', 'STAR']


def compare(model, x, expected=None):
    """None if the engine's outputs are ONNX Runtime's, else what is wrong."""
    path = folder + '/m.onnx'
    with open(path, 'wb') as f:
        f.write(model)
    if expected is None:
        session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
        expected = session.run(None, {session.get_inputs()[0].name: x})
    x.tofile(folder + '/x')
    ran = subprocess.run([TOOL, path, '--batch', str(len(x)), '--in', folder + '/x', '--out', folder + '/y'],
                         capture_output=True, text=True, timeout=60)
    if ran.returncode:
        return ran.stderr.strip() or 'exit %d' % ran.returncode
    for i, e in enumerate(expected):
        if isinstance(e, list):                 # ZipMap
            e = np.array([list(row.values()) for row in e], np.float32)
        if e.dtype.kind in 'OU':                # names are their positions
            e = np.searchsorted(names, e.astype(str)).astype(np.int64)
        y = np.fromfile('%s/y.%d' % (folder, i), e.dtype)
        if y.size != e.size:
            return 'output %d has %d elements, not %d' % (i, y.size, e.size)
        y = y.reshape(e.shape)
        if e.dtype.kind == 'i' and (y != e).any():
            return 'output %d: %d of %d labels differ' % (i, (y != e).sum(), y.size)
        if e.dtype.kind == 'f' and not np.allclose(y, e, rtol=2e-5, atol=1e-5 * max(1e-3, np.abs(np.nan_to_num(e, posinf=0, neginf=0)).max()), equal_nan=True):
            return 'output %d differs by %g' % (i, np.nanmax(np.abs(y - e)))
    return None


# ---- scikit-learn ----

columns = ['u', 'g', 'r', 'i', 'z', 'alpha', 'delta', 'redshift']
with open(table) as f:
    rows = [r for r in csv.DictReader(f) if float(r['u']) > -1000][:5000]
X = np.array([[float(r[c]) for c in columns] for r in rows], np.float32)
text = np.array([r['class'] for r in rows])
y = np.searchsorted(names, text)
two = y == 1
n = 1500
holes = X.copy()
holes[::7, 2] = np.nan
whole = np.round(X[:, :4]).astype(np.int64)
forest = dict(n_estimators=25, random_state=0)
scaled = preprocessing.StandardScaler
cases = [
    ('RandomForestClassifier', ensemble.RandomForestClassifier(**forest), X, y),
    ('RandomForestClassifier, names', ensemble.RandomForestClassifier(**forest), X, text),
    ('RandomForestClassifier, two classes', ensemble.RandomForestClassifier(**forest), X, two),
    ('RandomForestClassifier, integers', ensemble.RandomForestClassifier(**forest), whole, y),
    ('ExtraTreesClassifier', ensemble.ExtraTreesClassifier(**forest), X, y),
    ('GradientBoostingClassifier', ensemble.GradientBoostingClassifier(n_estimators=10), X, y),
    ('GradientBoostingClassifier, two classes', ensemble.GradientBoostingClassifier(n_estimators=10), X, two),
    ('HistGradientBoostingClassifier', ensemble.HistGradientBoostingClassifier(max_iter=10), holes, y),
    ('DecisionTreeClassifier', tree.DecisionTreeClassifier(), X, text),
    ('RandomForestRegressor', ensemble.RandomForestRegressor(**forest), X[:, :7], X[:, 7]),
    ('RandomForestRegressor, three targets', ensemble.RandomForestRegressor(**forest), X[:, :5], X[:, 5:]),
    ('GradientBoostingRegressor', ensemble.GradientBoostingRegressor(n_estimators=20), X[:, :7], X[:, 7]),
    ('IsolationForest', ensemble.IsolationForest(n_estimators=5, random_state=0), X, None),
    ('LogisticRegression', make_pipeline(scaled(), linear_model.LogisticRegression()), X, y),
    ('LogisticRegression, names', make_pipeline(scaled(), linear_model.LogisticRegression()), X, text),
    ('LogisticRegression, two classes', make_pipeline(scaled(), linear_model.LogisticRegression()), X, two),
    ('SGDClassifier, names', make_pipeline(scaled(), linear_model.SGDClassifier(random_state=0)), X, text),
    ('LinearSVC', svm.LinearSVC(random_state=0), X, y),
    ('SVC', make_pipeline(scaled(), svm.SVC()), X, y),
    ('SVC, probabilities', make_pipeline(scaled(), svm.SVC(probability=True, random_state=0)), X, y),
    ('SVC, polynomial, two classes', make_pipeline(scaled(), svm.SVC(kernel='poly', probability=True, random_state=0)), X, two),
    ('SVC, sigmoid, two classes', make_pipeline(scaled(), svm.SVC(kernel='sigmoid')), X, two),
    ('SVC, linear, names', make_pipeline(scaled(), svm.SVC(kernel='linear')), X, text),
    ('SVR', make_pipeline(scaled(), svm.SVR()), X[:, :7], X[:, 7]),
    ('OneClassSVM', make_pipeline(scaled(), svm.OneClassSVM(gamma=.1)), X, None),
    ('Normalizer l2', make_pipeline(preprocessing.Normalizer(), linear_model.LinearRegression()), X[:, :7], X[:, 7]),
    ('Normalizer l1', make_pipeline(preprocessing.Normalizer('l1'), linear_model.LinearRegression()), X[:, :7], X[:, 7]),
    ('Normalizer max', make_pipeline(preprocessing.Normalizer('max'), linear_model.Ridge()), X[:, :7], X[:, 7]),
    ('SimpleImputer, Binarizer', make_pipeline(SimpleImputer(), preprocessing.Binarizer(threshold=20), linear_model.Ridge()), holes, X[:, 7]),
    ('OneHotEncoder', make_pipeline(preprocessing.OneHotEncoder(handle_unknown='ignore'), linear_model.LogisticRegression()), whole, y),
    ('PolynomialFeatures', make_pipeline(preprocessing.PolynomialFeatures(2), scaled(), linear_model.Ridge()), X[:, :4], X[:, 7]),
    ('GaussianNB, names', naive_bayes.GaussianNB(), X, text),
    ('MLPClassifier, names', make_pipeline(scaled(), neural_network.MLPClassifier((20,), max_iter=20, random_state=0)), X, text),
]
for what, model, table, target in cases:
    size = 400 if 'SV' in what else n
    model.fit(table[:size]) if target is None else model.fit(table[:size], target[:size])
    try:
        onnx_model = to_onnx(model, table[:1], target_opset={'': 17, 'ai.onnx.ml': 3})
    except Exception as e:
        note('%s: skl2onnx does not convert it: %s' % (what, str(e).splitlines()[0][:100]))
        continue
    fault = compare(onnx_model.SerializeToString(), np.ascontiguousarray(table[n:n + 1000]))
    ok(fault is None, what + ('' if fault is None else ': ' + fault))


# ---- hand-made nodes ----

def one_node(op, x, n_out, opset=3, **attributes):
    ports = [helper.make_tensor_value_info('y%d' % i, t, None) for i, t in enumerate(n_out)]
    node = helper.make_node(op, ['x'], ['y%d' % i for i in range(len(n_out))], domain='ai.onnx.ml', **attributes)
    port = helper.make_tensor_value_info('x', helper.np_dtype_to_tensor_dtype(x.dtype), [None] + list(x.shape[1:]))
    return helper.make_model(helper.make_graph([node], 'g', [port], ports), ir_version=9, opset_imports=[
        helper.make_opsetid('', 17), helper.make_opsetid('ai.onnx.ml', opset)]).SerializeToString()


MODES = ['BRANCH_LEQ', 'BRANCH_LT', 'BRANCH_GTE', 'BRANCH_GT', 'BRANCH_EQ', 'BRANCH_NEQ']


def random_trees(r, targets, prefix, modes, n_trees):
    """Attributes of an ensemble of versions 1 to 3 over 4 features in eighths."""
    a = {k: [] for k in ('treeids', 'nodeids', 'featureids', 'truenodeids', 'falsenodeids', 'modes', 'values', 'missing_value_tracks_true')}
    w = {k: [] for k in ('treeids', 'nodeids', 'ids', 'weights')}
    for t in range(n_trees):
        count = 0
        todo = [(0, 0)]
        while todo:
            node, depth = todo.pop()
            leaf = depth == 6 or r.random() < .2
            left = right = 0
            if not leaf:
                left, right = count + 1, count + 2
                count += 2
                todo += [(left, depth + 1), (right, depth + 1)]
            else:
                for i in r.sample(range(targets), r.randint(1, targets)):
                    for k, v in zip(w, (t, node, i, r.uniform(-1, 1))):
                        w[k].append(v)
            for k, v in zip(a, (t, node, r.randrange(4), left, right, 'LEAF' if leaf else r.choice(modes), r.randrange(-8, 9) / 8,
                                r.randint(0, 1))):
                a[k].append(v)
    if r.random() < .3:
        del a['missing_value_tracks_true']
    return dict([('nodes_' + k, v) for k, v in a.items()] + [(prefix + '_' + k, v) for k, v in w.items()])


g = np.random.default_rng(2)
eighths = (g.integers(-10, 11, (200, 4)) / 8).astype(np.float32)
eighths[g.random((200, 4)) < .05] = np.nan
faults = []
for seed in range(60):
    r = random.Random(seed)
    targets = r.choice([1, 1, 2, 3])
    a = random_trees(r, targets, 'target', r.choice([MODES, MODES[:1], [r.choice(MODES)]]), r.randint(1, 20))
    a['aggregate_function'] = r.choice(['SUM', 'AVERAGE', 'MIN', 'MAX'])
    a['post_transform'] = r.choice(['NONE', 'SOFTMAX', 'LOGISTIC', 'SOFTMAX_ZERO']) if targets > 1 else 'NONE'
    if r.random() < .5:
        a['base_values'] = [r.uniform(-1, 1) for _ in range(targets)]
    fault = compare(one_node('TreeEnsembleRegressor', eighths, [1], n_targets=targets, **a), eighths)
    if fault:
        faults.append('%d (%d targets, %s, %s): %s' % (seed, targets, a['aggregate_function'], a['post_transform'], fault))
ok(not faults, 'TreeEnsembleRegressor: 60 random ensembles')
note('\n'.join(faults))

faults = []
for seed in range(60):
    r = random.Random(seed)
    classes = r.choice([2, 3, 5])
    one = classes == 2                  # weights of one class stand for both
    a = random_trees(r, 1 if one else classes, 'class', r.choice([MODES, MODES[:1]]), r.randint(1, 20))
    if one and r.random() < .5:
        a['class_weights'] = [abs(v) / 10 for v in a['class_weights']]
    if r.random() < .5:
        a['base_values'] = [r.uniform(-1, 1) for _ in range(1 if one else classes)]
    a['post_transform'] = r.choice(['NONE', 'LOGISTIC'] + ([] if one else ['SOFTMAX', 'SOFTMAX_ZERO']))
    a['classlabels_int64s'] = r.sample(range(-50, 50), classes)
    fault = compare(one_node('TreeEnsembleClassifier', eighths, [7, 1], **a), eighths)
    if fault:
        faults.append('%d (%d classes, %s): %s' % (seed, classes, a['post_transform'], fault))
ok(not faults, 'TreeEnsembleClassifier: 60 random ensembles')
note('\n'.join(faults))


def members_reference(x):
    """TreeEnsemble of version 5: x[0] in {1, 3, 5} ? (x[1] < .5 ? 1 : 2) : 4, and a tree of one leaf."""
    return np.where(np.isin(x[:, 0], [1, 3, 5]), np.where(x[:, 1] < .5, 1, 2), 4).astype(np.float32)[:, None] + 10


x5 = np.stack([g.integers(0, 7, 200), g.random(200)], 1).astype(np.float32)
fault = compare(one_node('TreeEnsemble', x5, [1], 5, n_targets=1, tree_roots=[0, 2], nodes_featureids=[0, 1, 0],
                         nodes_modes=numpy_helper.from_array(np.array([6, 1, 0], np.uint8)),
                         nodes_splits=numpy_helper.from_array(np.array([0, .5, 0], np.float32)),
                         membership_values=numpy_helper.from_array(np.array([1, 3, 5, np.nan], np.float32)),
                         nodes_truenodeids=[1, 0, 3], nodes_trueleafs=[0, 1, 1], nodes_falsenodeids=[2, 1, 3], nodes_falseleafs=[1, 1, 1],
                         leaf_targetids=[0, 0, 0, 0], leaf_weights=numpy_helper.from_array(np.array([1, 2, 4, 10], np.float32))),
                x5, [members_reference(x5)])
ok(fault is None, 'TreeEnsemble: members, a tree that is a leaf' + (': ' + fault if fault else ''))

floats = g.standard_normal((50, 4)).astype(np.float32)
for post in ('NONE', 'SOFTMAX', 'LOGISTIC', 'SOFTMAX_ZERO'):
    for targets in (2, 4):
        a = dict(coefficients=g.standard_normal(4 * targets).tolist(), intercepts=g.standard_normal(targets).tolist(), post_transform=post)
        faults = [compare(one_node('LinearRegressor', floats, [1], 1, targets=targets, **a), floats),
                  compare(one_node('LinearClassifier', floats, [7, 1], 1, classlabels_ints=list(range(3, 3 + targets)), **a), floats)]
        ok(faults == [None, None], 'LinearRegressor, LinearClassifier: %d targets, %s %s' % (targets, post, '' if faults == [None, None] else faults))
fault = compare(one_node('LinearClassifier', floats, [7, 1], 1, coefficients=[1., 2, -1, .5], intercepts=[.2], classlabels_ints=[7, 9],
                         post_transform='LOGISTIC'), floats)
ok(fault is None, 'LinearClassifier: two classes from one score %s' % (fault or ''))
for post in ('NONE', 'LOGISTIC'):
    for labels, vectors in ((2, [3, 2]), (3, [2, 3, 2])):
        count = sum(vectors)
        fault = compare(one_node('SVMClassifier', floats, [7, 1], 1, classlabels_ints=list(range(labels)), vectors_per_class=vectors,
                                 coefficients=g.standard_normal(count * (labels - 1)).tolist(), support_vectors=g.standard_normal(4 * count).tolist(),
                                 rho=g.standard_normal(labels * (labels - 1) // 2).tolist(), kernel_type='RBF', kernel_params=[.5, 0., 3.],
                                 post_transform=post), floats)
        ok(fault is None, 'SVMClassifier: %d classes, no probabilities, %s %s' % (labels, post, fault or ''))
    fault = compare(one_node('SVMClassifier', floats, [7, 1], 1, classlabels_ints=[4, 5, 6], coefficients=g.standard_normal(12).tolist(), rho=[.3], kernel_params=[0., 0., 0.],
                             post_transform=post), floats)
    ok(fault is None, 'SVMClassifier: no vectors, %s %s' % (post, fault or ''))
fault = compare(one_node('LabelEncoder', floats.round(), [7], 2, keys_floats=[0., 1, -1, float('nan')], values_int64s=[5, 6, 7, 8], default_int64=-3),
                floats.round())
ok(fault is None, 'LabelEncoder: floats to integers %s' % (fault or ''))
ints = g.integers(-5, 5, (50, 4))
fault = compare(one_node('LabelEncoder', ints, [1], 2, keys_int64s=[0, 1, -4], values_floats=[5., 6.5, 7.25], default_float=-1.), ints)
ok(fault is None, 'LabelEncoder: integers to floats %s' % (fault or ''))
fault = compare(one_node('FeatureVectorizer', ints, [1], 1, inputdimensions=[4]), ints)
ok(fault is None, 'FeatureVectorizer %s' % (fault or ''))
fault = compare(one_node('Imputer', ints, [7], 1, imputed_value_int64s=[10, 20, 30, 40], replaced_value_int64=3), ints)
ok(fault is None, 'Imputer: integers %s' % (fault or ''))
done()
