#!/usr/bin/env python3
"""Prediction in SQL against the libraries its users would have left for: microseconds a row.

    bench/predict.py [--only random_forest,explain] [--rounds 5]

One core, one thread, SDSS17 (8 numbers; learnt on 19,200 rows), rounds interleaved, medians of CPU seconds (ratios of the
wall clock stand beside them: the machine may be shared).
  set-wise   one statement over arrays of 1000 rows: millrace.classify_rows(), or infer()
  a row      SELECT classify(f, 'model') FROM t, or predict(), infer(): a call a row, reading the table included
  statement  a prepared SELECT classify($1, 'model') a row, from this process and back
Theirs: predict() of all rows on an array in memory, and predict_proba() (predict(), transform()) of one row a call, from
Python.  Boosting: also LightGBM compiled by tl2cgen (gcc -O3), the row already in its matrix: such code takes a row at
a time, so its batch is its single call without Python.  explain() against shap.TreeExplainer.
Ends with 1 if a goal is missed.  Needs psycopg, scikit-learn, lightgbm, tl2cgen, treelite, shap, gcc, ../shared/data, and a
server (see common/side.py).
"""
import argparse
import pathlib
import sys
import tempfile
import warnings

from common.side import Side
from common.data import sdss17
import lightgbm
import numpy as np
import shap
import tl2cgen
import treelite
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

SCALED = {'standardize': True}
PLAIN = {**SCALED, 'calibration': None}
TRAINED = 19200
SINGLES = 40


def scaled(model):
    return make_pipeline(StandardScaler(), model)


# algorithm, options, peer, rows, goals: microseconds set-wise and a row, or None (then at most the peer's batch)
CASES = [
    ('random_forest', {}, RandomForestClassifier(random_state=0), 24000, (2.5, 5)),
    ('extra_trees', {}, ExtraTreesClassifier(random_state=0), 24000, None),
    ('gradient_boosting', {}, lightgbm.LGBMClassifier(n_jobs=1, verbose=-1), 24000, None),
    ('logistic_regression', {**SCALED, 'max_iter': 1000}, scaled(LogisticRegression(max_iter=1000)), 24000, (1, 1)),
    ('linear_svm', PLAIN, scaled(LinearSVC()), 24000, (1, 1)),
    ('rbf_svm', PLAIN, scaled(SVC()), 4000, None),
    ('knn', SCALED, scaled(KNeighborsClassifier()), 4000, None),
    ('ridge', SCALED, scaled(Ridge()), 24000, (1, 1)),
    ('kmeans', {'n_clusters': 8}, KMeans(8, n_init=1, random_state=0), 24000, (1, 1)),
    ('pca', {'n_components': 4}, PCA(4), 24000, (1, 1)),
]
COMPILED = .7                   # boosting to tl2cgen
SINGLE = 100                    # times faster than predict_proba() of one row


class Bench:
    def __init__(self, side, rounds):
        self.s, self.rounds, self.missed = side, rounds, []
        self.x, self.y = sdss17()
        order = np.random.default_rng(0).permutation(len(self.x))
        self.x, self.y = self.x[order], self.y[order]
        n = TRAINED
        side.copy('train', self.x[:n], self.y[:n])
        side.copy('train_value', self.x[:n, :7], self.x[:n, 7])
        side.copy('train_alone', self.x[:n])
        for rows in sorted({c[3] for c in CASES}):
            # What was not learnt comes first.
            x = np.roll(self.x, -n, 0)[:rows]
            for d in (7, 8):
                table = 'q%d_%d' % (d, rows)
                side.copy(table, x[:, :d])
                side.db.execute('CREATE TEMP TABLE %s_blocks AS SELECT array_agg(f) AS rows FROM '
                                '(SELECT f, (row_number() OVER () - 1) / 1000 AS b FROM %s) s GROUP BY b' % (table, table))
                side.db.execute('ANALYZE %s_blocks' % table)

    def us(self, key, rows):
        """Microseconds a row: CPU, wall."""
        return tuple(v * 1e6 / rows for v in self.s.median(key))

    def goal(self, what, value, limit):
        """The limit as text."""
        if value <= limit:
            return '≤ %g' % limit
        self.missed.append('%s: %.3g, not %g' % (what, value, limit))
        return '≤ %g, MISSED' % limit

    def reading(self):
        """What the statements below spend without a model."""
        for r in range(self.rounds):
            self.s.clock('read blocks', lambda: self.s.one('SELECT count(array_ndims(rows)) FROM q8_24000_blocks'))
            self.s.clock('read rows', lambda: self.s.one('SELECT count(array_ndims(f)) FROM q8_24000'))
        print('| reading alone | %.3g | %.3g | | | | | | |' % (self.us('read blocks', 24000)[0], self.us('read rows', 24000)[0]))

    def predict(self, algorithm, options, peer, rows, limits):
        s, d = self.s, 7 if algorithm == 'ridge' else 8
        name, table = 'bench_' + algorithm, 'q%d_%d' % (d, rows)
        x = np.roll(self.x, -TRAINED, 0)[:rows, :d].copy()
        if algorithm == 'ridge':
            s.train(name, algorithm, 'SELECT * FROM train_value', **options)
            peer.fit(self.x[:TRAINED, :7], self.x[:TRAINED, 7])
        elif algorithm in ('kmeans', 'pca'):
            s.train(name, algorithm, 'SELECT * FROM train_alone', None, **options)
            peer.fit(self.x[:TRAINED])
        else:
            s.train(name, algorithm, 'SELECT * FROM train', **options)
            peer.fit(self.x[:TRAINED], self.y[:TRAINED])
        whole = "SELECT count(*) FROM %s_blocks, LATERAL millrace.classify_rows(rows, '%s')" % (table, name)
        call = "classify(%%s, '%s')" % name
        single = getattr(peer, 'predict_proba', None) or peer.predict if algorithm != 'pca' else peer.transform
        batch = peer.transform if algorithm == 'pca' else peer.predict
        if algorithm in ('ridge', 'kmeans', 'pca'):
            whole = "SELECT count(infer('%s', rows)) FROM %s_blocks" % (name, table)
            call = "predict(%%s, '%s')" % name if algorithm != 'pca' else "infer('%s', %%s)" % name
        each = 'SELECT count(%s) FROM %s' % (call % 'f', table)
        asked = [['{%s}' % ','.join(map(repr, r.tolist()))] for r in x[:SINGLES]]
        statement = 'SELECT %s' % call % '%s::real[]'
        compiled = self.compile(peer, x) if algorithm == 'gradient_boosting' else None
        lines = {
            'set-wise': (lambda: s.one(whole), rows),
            'a row': (lambda: s.one(each), rows),
            'statement': (lambda: [s.db.execute(statement, a, prepare=True).fetchone() for a in asked], SINGLES),
            'batch': (lambda: batch(x), rows),
            'single': (lambda: [single(x[i:i + 1]) for i in range(SINGLES)], SINGLES),
        }
        if compiled:
            lines['tl2cgen'] = compiled, rows
        for r in range(self.rounds + 1):
            for what, (f, n) in lines.items():
                s.clock('%s %s%s' % (algorithm, what, '' if r else ' warm-up'), f)
        t = {what: self.us('%s %s' % (algorithm, what), n) for what, (f, n) in lines.items()}
        best = t['tl2cgen' if compiled else 'batch']
        goals = []
        for i, what in enumerate(('set-wise', 'a row')):
            if limits:
                goals.append('%s %s µs' % (what, self.goal('%s, %s, µs' % (algorithm, what), t[what][0], limits[i])))
            elif compiled or i == 0:
                goals.append('%s / %s %s' % (what, 'tl2cgen' if compiled else 'batch', self.goal(
                    '%s, %s' % (algorithm, what), t[what][0] / best[0], COMPILED if compiled else 1)))
        times = t['single'][0] / t['a row'][0]
        goals.append('a row %.0f × as fast as one' % times)
        if algorithm == 'random_forest' and times < SINGLE:
            self.missed.append('random_forest: a call is only %.0f × as fast' % times)
        print('| %s | %.3g | %.3g | %.3g | %.3g%s | %.4g | %.2f (%.2f) | %.2f (%.2f) | %s |' % (
            algorithm, t['set-wise'][0], t['a row'][0], t['statement'][0], t['batch'][0],
            ', tl2cgen %.3g' % best[0] if compiled else '', t['single'][0],
            t['set-wise'][0] / best[0], t['set-wise'][1] / best[1], t['a row'][0] / best[0], t['a row'][1] / best[1],
            '; '.join(goals)), flush=True)
        return peer

    def compile(self, peer, x):
        """LightGBM's model as a library of machine code, and a call of it."""
        model = treelite.frontend.from_lightgbm(peer.booster_)
        path = pathlib.Path(self.folder) / 'boosting.so'
        tl2cgen.export_lib(model, toolchain='gcc', libpath=path)
        predictor = tl2cgen.Predictor(path, nthread=1)
        matrix = tl2cgen.DMatrix(x.astype(np.float64))
        ours = peer.predict_proba(x)
        assert np.abs(predictor.predict(matrix).reshape(ours.shape) - ours).max() < 1e-6
        return lambda: predictor.predict(matrix)

    def explain(self, algorithm, peer, rows):
        s, name = self.s, 'bench_' + algorithm
        explainer = shap.TreeExplainer(peer)
        x = np.roll(self.x, -TRAINED, 0)[:rows]
        statement = "SELECT count(contribution) FROM (SELECT f FROM q8_24000 LIMIT %d) s, LATERAL explain('%s', f)" % (rows, name)
        for r in range(self.rounds + 1):
            s.clock('explain %s%s' % (algorithm, '' if r else ' warm-up'), lambda: s.one(statement))
            s.clock('shap %s%s' % (algorithm, '' if r else ' warm-up'), lambda: explainer.shap_values(x, check_additivity=False))
        ours, theirs = self.us('explain ' + algorithm, rows), self.us('shap ' + algorithm, rows)
        print('| %s | %.4g | %.4g | %.2f (%.2f) |' % (algorithm, ours[0], theirs[0], ours[0] / theirs[0], ours[1] / theirs[1]), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--only', help='algorithms, with commas between; "explain" for that part')
    parser.add_argument('--rounds', type=int, default=5)
    args = parser.parse_args()
    only = args.only and args.only.split(',')
    warnings.filterwarnings('ignore')
    with Side() as s, tempfile.TemporaryDirectory() as folder:
        b = Bench(s, args.rounds)
        b.folder = folder
        peers = {}
        print('| µs of CPU a row | set-wise | a row | statement | theirs: batch | one row | set-wise / theirs (wall) | a row / theirs (wall) | goals |')
        print('|---|---|---|---|---|---|---|---|---|')
        explained = {'random_forest': 10, 'gradient_boosting': 200}
        b.reading()
        for case in CASES:
            if not only or case[0] in only or ('explain' in only and case[0] in explained):
                peers[case[0]] = b.predict(*case)
        print('\n| explain(), µs of CPU a row | ours | shap | ratio (wall) |\n|---|---|---|---|')
        for algorithm, rows in explained.items():
            if algorithm in peers and (not only or 'explain' in only):
                b.explain(algorithm, peers[algorithm], rows)
        for case in CASES:
            if case[0] in peers:
                s.db.execute("SELECT millrace.drop_model('bench_%s')" % case[0])
    for missed in b.missed:
        print('goal missed: ' + missed)
    return bool(b.missed)


if __name__ == '__main__':
    sys.exit(main())
