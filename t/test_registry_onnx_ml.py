#!/usr/bin/env python3
# timeout: 900
"""Models of scikit-learn, LightGBM and XGBoost, exported to ONNX, as classifiers and regressors in SQL.

Each is imported with an empty specification and asked by classify(), class_probabilities(), predict() and
infer(), on each instruction set: labels, probabilities and values are those of the library that trained it
and of ONNX Runtime within 1e-5, on rows of SDSS17.  Then the functions around: evaluation, challenges against
our own models, importance, features by name; and what cannot be.
"""
import csv
import json
import os
import pathlib
import sys
import warnings

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, SqlError, find_pg_config

FILE = tap.data("sdss17/star_classification.csv")
if not FILE:
    tap.skip_all("no SDSS17")
try:
    import lightgbm
    import numpy as np
    import onnx
    import onnxmltools
    import onnxruntime
    import pandas
    import xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType as ToolsFloats
    from skl2onnx import convert_sklearn, to_onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from sklearn import calibration, cluster, compose, ensemble, linear_model, naive_bayes, neural_network, svm
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler
except ImportError as e:
    tap.skip_all(str(e))
warnings.filterwarnings("ignore")

TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_registry_onnx_ml")).resolve()
COLUMNS = ["u", "g", "r", "i", "z", "alpha", "delta", "redshift"]
TRAIN, ASKED = 2500, 400
rows = [r for r in csv.DictReader(open(FILE)) if float(r["u"]) > -1000][:TRAIN + ASKED]
X = np.array([[float(r[c]) for c in COLUMNS] for r in rows], np.float32)
text = np.array([r["class"] for r in rows])
names, position = np.unique(text, return_inverse=True)
numbers = position * 10 - 5                             # labels that are neither 0, 1, ... nor all positive
two = np.where(position == 1, "quasar", "no quasar")
holes = X.copy()
holes[::5, 2] = holes[::7, 7] = np.nan

# skl2onnx writes booleans where integers are meant, which onnx refuses since 1.19.
make_attribute = onnx.helper.make_attribute
onnx.helper.make_attribute = lambda key, value, *rest, **more: make_attribute(
    key, [int(v) for v in value] if isinstance(value, list) and any(isinstance(v, (bool, np.bool_)) for v in value) else value, *rest, **more)


class Case:
    """A trained model, its file, and what it must say of the rows asked."""

    def __init__(self, name, model, x, y, export=None, size=TRAIN, near=0):
        model.fit(x[:size], y[:size])
        self.name, self.model = name, model
        self.x = np.ascontiguousarray(x[TRAIN:])
        self.y = y[TRAIN:]
        self.near = near                                # share of rows at a threshold, which the export rounds to float32
        self.file = (export or (lambda m: to_onnx(m, x[:1])))(model).SerializeToString()
        self.regression = not hasattr(model, "predict_proba") and not hasattr(model, "decision_function")
        if self.regression:
            self.expected = model.predict(self.x).reshape(-1, 1)
            self.labels = None
        else:
            self.scores = not hasattr(model, "predict_proba")
            self.expected = model.decision_function(self.x) if self.scores else model.predict_proba(self.x)
            self.expected = self.expected.reshape(len(self.x), -1)
            self.labels = [str(c) for c in model.classes_]

    def runtime(self):
        """ONNX Runtime's scores, as a table."""
        o = onnxruntime.SessionOptions()
        o.intra_op_num_threads, o.log_severity_level = 1, 4
        s = onnxruntime.InferenceSession(self.file, o, providers=["CPUExecutionProvider"])
        inputs = s.get_inputs()
        if len(inputs) == 1:
            feed = {inputs[0].name: self.x.astype(np.float64 if "double" in inputs[0].type else np.float32)}
        else:
            feed = {p.name: self.x[:, [i]] for i, p in enumerate(inputs)}
        out = s.run(None, feed)[-1]
        if isinstance(out, list):                       # ZipMap
            out = [list(row.values()) for row in out]
        return np.asarray(out, np.float64).reshape(len(self.x), -1)


def scikit(*options, **more):
    """to_onnx() with options of the last step."""
    return lambda m: to_onnx(m, X[:1], options={id(m): dict(*options, **more)})


def lightgbm_file(width=8, **more):
    return lambda m: onnxmltools.convert_lightgbm(m, initial_types=[("x", ToolsFloats([None, width]))], target_opset=15, **more)


def xgboost_file(width=8):
    return lambda m: onnxmltools.convert_xgboost(m, initial_types=[("x", ToolsFloats([None, width]))], target_opset=15)


def by_column(m):
    return convert_sklearn(m, initial_types=[(c, FloatTensorType([None, 1])) for c in COLUMNS])


class ByName:
    """A pipeline over a table with named columns."""

    def __init__(self, model):
        self.model = model

    def fit(self, x, y):
        self.model.fit(pandas.DataFrame(x, columns=COLUMNS), y)
        self.classes_ = self.model.classes_

    def predict_proba(self, x):
        return self.model.predict_proba(pandas.DataFrame(x, columns=COLUMNS))


forest = dict(n_estimators=30, random_state=0)
scaled = StandardScaler
flux, shift = X[:, :7], X[:, 7].astype(np.float64)
normal = scaled().fit_transform(X).astype(np.float32)
CASES = [
    Case("random forest", ensemble.RandomForestClassifier(**forest), X, text),
    Case("random forest, no ZipMap", ensemble.RandomForestClassifier(**forest), X, text, scikit(zipmap=False)),
    Case("random forest, integers", ensemble.RandomForestClassifier(**forest), X, numbers),
    Case("random forest, two classes", ensemble.RandomForestClassifier(**forest), X, two),
    Case("random forest, float64", ensemble.RandomForestClassifier(**forest), X, text,
         lambda m: convert_sklearn(m, initial_types=[("x", DoubleTensorType([None, 8]))])),
    Case("extra trees", ensemble.ExtraTreesClassifier(**forest), X, text),
    Case("gradient boosting", ensemble.GradientBoostingClassifier(n_estimators=15, random_state=0), X, text),
    Case("gradient boosting, two classes", ensemble.GradientBoostingClassifier(n_estimators=15, random_state=0), X, two, scikit(zipmap=False)),
    Case("histogram boosting", ensemble.HistGradientBoostingClassifier(max_iter=15), holes, text),
    Case("logistic regression", linear_model.LogisticRegression(max_iter=2000), normal, text),
    Case("logistic regression, two classes", linear_model.LogisticRegression(), normal, np.where(numbers > 0, 7, -7)),
    Case("scaler, logistic regression", make_pipeline(scaled(), linear_model.LogisticRegression()), X, text, scikit(zipmap=False)),
    Case("scaler, logistic regression, float64", make_pipeline(scaled(), linear_model.LogisticRegression()), X, text,
         lambda m: convert_sklearn(m, initial_types=[("x", DoubleTensorType([None, 8]))], options={id(m): {"zipmap": False}})),
    Case("linear SVM", svm.LinearSVC(random_state=0), normal, text),
    Case("linear SVM, two classes", svm.LinearSVC(random_state=0), normal, two),
    Case("SGD", make_pipeline(scaled(), linear_model.SGDClassifier(loss="log_loss", random_state=0)), X, numbers),
    Case("RBF SVM", make_pipeline(scaled(), svm.SVC(probability=True, random_state=0)), X, text, size=500),
    Case("RBF SVM, two classes", make_pipeline(scaled(), svm.SVC(probability=True, random_state=0)), X, two, scikit(zipmap=False), size=500),
    Case("imputer, scaler, forest", make_pipeline(SimpleImputer(), scaled(), ensemble.RandomForestClassifier(**forest)), holes, text, near=.01),
    Case("calibrated", calibration.CalibratedClassifierCV(linear_model.LogisticRegression(), cv=2), normal, text),
    Case("naive Bayes", naive_bayes.GaussianNB(), normal, text),
    Case("perceptron", make_pipeline(scaled(), neural_network.MLPClassifier((20,), max_iter=20, random_state=0)), X, text),
    Case("columns as inputs", ByName(make_pipeline(compose.ColumnTransformer([("s", scaled(), COLUMNS[:5]), ("p", "passthrough", COLUMNS[5:])]),
                                                   linear_model.LogisticRegression(max_iter=50))), X, text, lambda m: by_column(m.model)),
    Case("LightGBM", lightgbm.LGBMClassifier(n_estimators=15, verbose=-1), X, text, lightgbm_file(), near=.01),
    Case("LightGBM, missing values", lightgbm.LGBMClassifier(n_estimators=15, verbose=-1), holes, numbers, lightgbm_file(zipmap=False)),
    Case("LightGBM, two classes", lightgbm.LGBMClassifier(n_estimators=15, verbose=-1), X, two, lightgbm_file(zipmap=False)),
    Case("XGBoost", xgboost.XGBClassifier(n_estimators=15), X, position, xgboost_file()),
    Case("XGBoost, two classes, missing values", xgboost.XGBClassifier(n_estimators=15), holes, (position == 1).astype(int), xgboost_file()),
    Case("ridge", make_pipeline(scaled(), linear_model.Ridge()), flux, shift, lambda m: to_onnx(m, flux[:1])),
    Case("random forest regression", ensemble.RandomForestRegressor(**forest), flux, shift, lambda m: to_onnx(m, flux[:1])),
    Case("SVM regression", make_pipeline(scaled(), svm.SVR()), flux, shift, lambda m: to_onnx(m, flux[:1]), size=500),
    Case("LightGBM regression", lightgbm.LGBMRegressor(n_estimators=15, verbose=-1), flux, shift, lightgbm_file(7)),
    Case("XGBoost regression", xgboost.XGBRegressor(n_estimators=15), flux, shift, xgboost_file(7)),
]


def hexed(file):
    return "'\\x" + file.hex() + "'::bytea"


def array(x):
    return "'{" + ",".join("{" + ",".join("NaN" if np.isnan(v) else repr(float(v)) for v in row) + "}" for row in x) + "}'::real[]"


def import_model(c, name, file, spec=None):
    return c.psql(f"SELECT millrace.import_model('{name}', {hexed(file)}, '{json.dumps(spec or {})}')")


def error(c, sql):
    """sqlstate and text of what fails, None if it does not."""
    try:
        c.psql(sql)
    except SqlError as e:
        return (e.sqlstate or "") + " " + str(e)
    return ""


def distance(a, b):
    """The largest difference, of numbers beyond 1 the relative one."""
    return (abs(a - b) / np.maximum(1, abs(b))).max(axis=1)


def softmax(s):
    s = np.hstack([np.zeros_like(s), s]) if s.shape[1] == 1 else s
    e = np.exp(s - s.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def check_case(c, k, case, isa):
    model = f"m{k}"
    c.psql("DELETE FROM asked")
    c.psql("INSERT INTO asked SELECT i, ARRAY(SELECT unnest(a[i:i])) FROM (SELECT " + array(case.x) + " AS a) s, generate_series(1, array_length(a, 1)) i")
    c.psql(f"ALTER DATABASE postgres SET millrace.isa = '{isa}'")
    raw = json.loads(c.value(f"SELECT array_to_json(infer('{model}', {array(case.x)}))"))
    raw = np.array(raw, float).reshape(len(case.x), -1)
    far = distance(raw, case.expected)
    wrong = []
    if np.quantile(far, 1 - case.near) > 1e-5:
        wrong.append(f"{np.quantile(far, 1 - case.near):.1e} from the library")
    if distance(raw, case.runtime()).max() > 1e-5:
        wrong.append(f"{distance(raw, case.runtime()).max():.1e} from ONNX Runtime")
    if case.regression:
        values = np.array([float(v) for v, in c.psql(f"SELECT predict(x, '{model}') FROM asked ORDER BY i")])
        if (values.astype(np.float32) != raw[:, 0].astype(np.float32)).any():
            wrong.append("predict() is not infer()")
    else:
        p = softmax(raw) if case.scores else raw
        rows = c.psql(f"SELECT label, confidence FROM (SELECT a FROM (SELECT {array(case.x)} AS a) s) t, LATERAL millrace.classify_rows(a, '{model}')")
        single = c.psql(f"SELECT (t).label, (t).confidence FROM (SELECT classify(x, '{model}') AS t FROM asked ORDER BY i OFFSET 0) s")
        if rows != single:
            wrong.append("classify_rows() is not classify()")
        expected = np.array(case.labels)[p.argmax(1)]
        if [r[0] for r in rows] != list(expected) or abs(np.array([float(r[1]) for r in rows]) - p.max(1)).max() > 1e-6:
            wrong.append("labels or confidences are not infer()'s")
        library = np.array(case.labels)[softmax(case.expected).argmax(1) if case.scores else case.expected.argmax(1)]
        if (library != expected).mean() > case.near:
            wrong.append(f"{(library != expected).sum()} labels are not the library's")
        q = c.psql(f"SELECT label, probability FROM class_probabilities((SELECT x FROM asked WHERE i = 7), '{model}')")
        if [r[0] for r in q] != case.labels or abs(np.array([float(r[1]) for r in q]) - p[6]).max() > 1e-6:
            wrong.append("class_probabilities() are others")
    tap.ok(not wrong, f"{case.name}, {isa}: {far.max():.1e} from the library" + "".join("; " + w for w in wrong))


def test_cases(c, sets):
    c.psql("CREATE TABLE asked (i integer, x real[])")
    for k, case in enumerate(CASES):
        import_model(c, f"m{k}", case.file)
        labels = c.value(f"SELECT array_to_json(labels) FROM millrace.models WHERE name = 'm{k}'")
        tap.same(json.loads(labels) if labels else None, case.labels, f"{case.name}: labels")
        for isa in sets:
            check_case(c, k, case, isa)
    c.psql("ALTER DATABASE postgres RESET millrace.isa")


def test_around(c):
    """Evaluation, challenges, importance, features by name."""
    c.psql("CREATE TABLE star (id integer, u real, g real, r real, i real, z real, alpha real, delta real, redshift real, class text)")
    c.psql("INSERT INTO star VALUES " + ", ".join("(%d, %s, '%s')" % (i, ", ".join(repr(float(v)) for v in x), t)
                                                 for i, (x, t) in enumerate(zip(X, text))))
    query = "SELECT u, g, r, i, z, alpha, delta, redshift, class FROM star WHERE id >= %d" % TRAIN
    case = CASES[0]
    accuracy = (case.model.predict(case.x) == case.y).mean()
    c.psql(f"SELECT millrace.evaluate_model('m0', '{query}', 'class')")
    found = c.value("SELECT accuracy FROM millrace.evaluations ORDER BY id DESC LIMIT 1")
    tap.ok(abs(float(found) - accuracy) < 1e-9, f"evaluate_model(): accuracy {found}")
    k = [i for i, x in enumerate(CASES) if x.name == "random forest regression"][0]
    error2 = ((CASES[k].expected[:, 0] - shift[TRAIN:]) ** 2).mean() ** .5
    c.psql(f"SELECT millrace.evaluate_model('m{k}', '{query.replace('redshift, class', 'redshift')}', 'redshift')")
    rmse = c.value("SELECT metrics ->> 'rmse' FROM millrace.evaluations ORDER BY id DESC LIMIT 1")
    tap.ok(abs(float(rmse) - error2) < 1e-5, f"evaluate_model() of a regression: rmse {rmse}")
    k = [i for i, x in enumerate(CASES) if x.name == "columns as inputs"][0]
    tap.same(c.psql(f"SELECT DISTINCT classify(millrace.model_features('m{k}', star), 'm{k}') = classify(ARRAY[u, g, r, i, z, alpha, delta, redshift], 'm{k}') FROM star"),
             [("t",)], "columns as inputs: features by the inputs' names")
    # The same rows by name, whatever the order of the columns.
    import_model(c, "named", case.file, {"features": COLUMNS})
    tap.same(c.psql("SELECT DISTINCT millrace.model_features('named', s) = ARRAY[s.u, s.g, s.r, s.i, s.z, s.alpha, s.delta, s.redshift] FROM (SELECT class, redshift, delta, alpha, z, i, r, g, u FROM star) s"),
             [("t",)], "features of the specification")
    tap.same(c.value("SELECT millrace.model_features('m0', s) = ARRAY[s.u, s.g, s.r, s.i, s.z, s.alpha, s.delta, s.redshift] FROM (SELECT u, g, r, i, z, alpha, delta, redshift FROM star LIMIT 1) s"),
             "t", "without: the columns of the row in order")
    top = c.value(f"SELECT feature FROM millrace.permutation_importance('named', '{query}', 'class') ORDER BY importance DESC LIMIT 1")
    tap.same(top, "redshift", "permutation_importance()")
    n = c.value(f"SELECT count(*) FROM millrace.partial_dependence('named', '{query}', 'redshift') WHERE average BETWEEN 0 AND 1")
    tap.ok(int(n) > 10, f"partial_dependence(): {n} points")

    # Ours against theirs, either way round.
    train = query.replace(">=", "<")
    c.psql(f"SELECT millrace.train_model('ours', 'random_forest', '{train}', 'class', '{{\"n_estimators\": 1, \"max_depth\": 2}}')")
    import_model(c, "ours", case.file, {"features": COLUMNS})
    c.psql("SELECT millrace.promote_model('ours', 1)")
    r = json.loads(c.value(f"SELECT millrace.challenge_model('ours', 2, '{query}', 'class')"))
    tap.ok(r["promoted"] and abs(r["challenger_score"] - accuracy) < 1e-9, f"challenge_model(): {r['reason']}")
    r = json.loads(c.value(f"SELECT millrace.challenge_model('ours', 1, '{query}', 'class')"))
    tap.ok(not r["promoted"] and abs(r["champion_score"] - accuracy) < 1e-9, f"and back: {r['reason']}")


def test_specification(c):
    """What the user says beats what the graph shows."""
    case = CASES[0]
    one = array(case.x[:1])[2:-len("}'::real[]")]       # without the outer braces
    row = "'" + one + "'::real[]"
    import_model(c, "renamed", case.file, {"labels": ["galaxie", "quasar", "étoile"]})
    label = c.value(f"SELECT (classify({row}, 'renamed')).label")
    tap.same(label, {"GALAXY": "galaxie", "QSO": "quasar", "STAR": "étoile"}[case.model.predict(case.x[:1])[0]], "labels of the specification")
    means = cluster.KMeans(4, n_init=1, random_state=0).fit(X)
    file = to_onnx(means, X[:1]).SerializeToString()
    import_model(c, "means", file)
    import_model(c, "means_label", file, {"output": "label", "task": "regression"})
    nearest = str(means.predict(case.x[:1])[0])
    tap.same([c.value(f"SELECT predict({row}, '{m}')") for m in ("means", "means_label")], [nearest] * 2, "k-means: predict() by distances, by its own label")
    open_width = convert_sklearn(CASES[11].model, initial_types=[("x", FloatTensorType([None, None]))]).SerializeToString()
    import_model(c, "open", open_width, {"features": COLUMNS})
    tap.same(c.value("SELECT n_inputs FROM millrace.models WHERE name = 'open'"), "8", "as many columns as features where the model leaves it open")
    columns = to_onnx(case.model, X[:1], options={"zipmap": "columns"}).SerializeToString()
    import_model(c, "columns", columns)
    e = error(c, f"SELECT classify({row}, 'columns')")
    tap.ok("22023" in e and "not a classifier" in e and '"labels"' in e, "probabilities as single outputs: no classifier, with a hint")
    tap.ok(c.value(f"SELECT infer('columns', {row})") is not None, "but infer() answers")


def test_bad(c):
    case = CASES[0]
    row = "'" + array(case.x[:1])[2:-len("}'::real[]")] + "'::real[]"
    bad = [
        ({"labels": ["a", "b"]}, "22023", "3 numbers a row"),
        ({"task": "regression", "output": "output_probability"}, "22023", "3 numbers a row"),
        ({"task": "sorting"}, "22023", "classification, regression or clustering"),
        ({"features": ["u", "g"]}, "22023", "the features are 2 numbers, the model takes 8"),
        ({"features": [1]}, "22023", "array of names"),
        ({"output": "nonsense"}, "22023", "It has: output_label, output_probability"),
    ]
    for spec, state, message in bad:
        e = error(c, f"SELECT millrace.import_model('bad', {hexed(case.file)}, '{json.dumps(spec)}')")
        tap.ok(state in e and message in e, f"{json.dumps(spec)}: {e.splitlines()[0] if e else 'no error'}")
    regression = [x for x in CASES if x.name == "ridge"][0].file
    e = error(c, f"SELECT millrace.import_model('bad', {hexed(regression)}, '{{\"task\": \"classification\"}}')")
    tap.ok("22023" in e and "needs labels" in e, "a classifier without labels")
    words = make_pipeline(OneHotEncoder(), linear_model.LogisticRegression()).fit([["a"], ["b"]] * 5, [0, 1] * 5)
    from skl2onnx.common.data_types import StringTensorType
    file = convert_sklearn(words, initial_types=[("x", StringTensorType([None, 1]))]).SerializeToString()
    e = error(c, f"SELECT millrace.import_model('bad', {hexed(file)})")
    tap.ok("0A000" in e and "string" in e, f"text as input: {e.splitlines()[0] if e else 'no error'}")
    e = error(c, f"SELECT millrace.import_model('bad', {hexed(case.file[:len(case.file) // 2])})")
    tap.ok("22023" in e, f"half a file: {e.splitlines()[0] if e else 'no error'}")
    tap.same(c.value("SELECT count(*) FROM millrace.models WHERE name = 'bad'"), "0", "nothing of them is stored")
    k = [i for i, x in enumerate(CASES) if x.name == "scaler, logistic regression"][0]
    for sql, state, message in [
            ("SELECT predict({row}, 'm0')", "22023", "Use classify()"),
            ("SELECT classify('{{1, 2}}', 'm0')", "22023", "takes 8 numbers, not 2"),
            ("SELECT classify({row}, 'means')", "22023", "Use predict()"),
            ("SELECT explain('m0', {row})", "0A000", "permutation_importance"),
            (f"SELECT classify('{{{{1, 2, 3, 4, NaN, 6, 7, 8}}}}', 'm{k}')", "22023", "Number 5 of row 1 is NaN"),
            ("SELECT classify('{{1, 2, 3, 4, Infinity, 6, 7, 8}}', 'm0')", "22023", "infinity"),
            ("SELECT millrace.model_features('m0', star) FROM star", "22023", '"features"')]:
        e = error(c, sql.format(row=row))
        tap.ok(state in e and message in e, f"{sql[:60]}: {e.splitlines()[0] if e else 'no error'}")


def main():
    with Cluster(find_pg_config(), TMP / "cluster", conf={"jit": "off"}) as c:
        c.psql("CREATE EXTENSION millrace")
        sets = [isa for isa in ("portable", "avx2", "avx512") if not error(c, f"SET millrace.isa = '{isa}'")]
        test_cases(c, sets)
        test_around(c)
        test_specification(c)
        test_bad(c)
        bad = [line for line in c.logs().splitlines() if "terminated by signal" in line or "PANIC" in line]
        tap.same(bad, [], "no process died")
    tap.done()


main()
