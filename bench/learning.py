#!/usr/bin/env python3
"""Training in SQL against the libraries its users would have left for: seconds, and what was reached with them.

    bench/learning.py [--only rbf_svm,kmeans] [--sets sdss17,synthetic] [--rounds 3] [--quick]

One core, one thread, the same float32 rows, rounds interleaved.  Ours is train_model() as a whole: reading the rows from
a table, learning, storing the model; theirs fit() on arrays in memory.  Seconds are CPU, the least of the rounds
(k-means, whose work hangs on the seed: the mean, another seed each round); "learning" is ours without
reading and storing, in CPU seconds by the share that train_model() reports: like with like, so its ratio has the goal.
What a Python program needs to bring the same rows from the table (psycopg, binary) stands above the table.  Figures are
of held-out rows, by evaluate_model() and by the peer's predictions; of k-means the inertia, of PCA the variance kept.
--quick: a fifth of the synthetic rows, one round.  Ends with 1 if a goal is missed.
Needs psycopg, scikit-learn, lightgbm, ../shared/data, and a server (see common/side.py).
"""
import argparse
import sys
import time
import warnings

from common.side import Side
from common.data import SDSS17, sdss17, synthetic
import numpy as np
from lightgbm import LGBMClassifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

NAME = 'bench_learning'
SCALED = {'standardize': True}
PLAIN = {**SCALED, 'calibration': None}


def scaled(*model):
    return make_pipeline(StandardScaler(), *model)


# Of ours (evaluate_model()'s figures, or train_model()'s of each round) and of the peer's last model, or of each round.

def accuracy(metrics, models, x, y):
    model = models[-1]
    return 'accuracy %.4f' % metrics['accuracy'], '%.4f' % model.score(x, y)


def accuracy_and_loss(metrics, models, x, y):
    model = models[-1]
    return ('accuracy %.4f, log-loss %.4f' % (metrics['accuracy'], metrics['log_loss']),
            '%.4f, %.4f' % (model.score(x, y), log_loss(y, model.predict_proba(x))))


def r2(metrics, models, x, y):
    return 'R2 %.4f' % metrics['r2'], '%.4f' % models[-1].score(x, y)


def inertia(metrics, models, x, y):
    return ('inertia %.4g' % np.mean([m['inertia'] for m in metrics]), '%.4g' % np.mean([m[-1].inertia_ for m in models]))


def variance(metrics, models, x, y):
    return 'variance %.4f' % sum(metrics[-1]['explained_variance_ratio']), '%.4f' % models[-1].explained_variance_ratio_.sum()


# algorithm, what is special, our options, the peer of a round, figures, goal (None: reported only)
BOTH = [
    ('gradient_boosting', '100 rounds', {}, lambda r: LGBMClassifier(n_jobs=1, verbose=-1), accuracy_and_loss, 1.0),
    ('logistic_regression', '', {**SCALED, 'max_iter': 1000}, lambda r: scaled(LogisticRegression(max_iter=1000)), accuracy_and_loss, .5),
    ('linear_svm', 'not calibrated', PLAIN, lambda r: scaled(LinearSVC()), accuracy, None),
    ('ridge', '', SCALED, lambda r: scaled(Ridge()), r2, None),
    ('kmeans', '8 clusters', {**SCALED, 'n_clusters': 8}, lambda r: scaled(KMeans(8, n_init=1, random_state=r)), inertia, 1.0),
    ('pca', '4 components', {'n_components': 4}, lambda r: PCA(4), variance, 1.0),
]
STARS = [
    ('random_forest', '100 trees', {}, lambda r: RandomForestClassifier(random_state=r), accuracy, .5),
    ('extra_trees', '100 trees', {}, lambda r: ExtraTreesClassifier(random_state=r), accuracy, None),
    ('rbf_svm', 'not calibrated', PLAIN, lambda r: scaled(SVC()), accuracy, 1.0),
    ('rbf_svm', 'calibrated', SCALED, lambda r: scaled(SVC(probability=True, random_state=r)), accuracy_and_loss, 1.0),
    ('rbf_svm', 'calibrated, against CalibratedClassifierCV', SCALED, lambda r: scaled(CalibratedClassifierCV(SVC(), ensemble=False)),
     accuracy_and_loss, 1.0),
    ('knn', '', SCALED, lambda r: scaled(KNeighborsClassifier()), accuracy, None),
] + BOTH
MANY = [
    ('random_forest', '2 trees', {'n_estimators': 2}, lambda r: RandomForestClassifier(2, random_state=r), accuracy, .5),
    ('extra_trees', '2 trees', {'n_estimators': 2}, lambda r: ExtraTreesClassifier(2, random_state=r), accuracy, None),
] + BOTH
FEW = [
    ('rbf_svm', 'not calibrated', PLAIN, lambda r: scaled(SVC()), accuracy, 1.0),
    ('rbf_svm', 'calibrated', SCALED, lambda r: scaled(SVC(probability=True, random_state=r)), accuracy_and_loss, 1.0),
]


class Set:
    """Rows for training and for judging: arrays, and temporary tables NAME_train, NAME_test."""

    def __init__(self, side, name, x, y, train, names=None, numbers=None):
        """numbers: for a regression, the columns in SQL, and what they are here: x, y."""
        self.name, self.train, self.rows = name, train, '%s × %d' % (format(train, ','), x.shape[1])
        self.x, self.y, self.numbers, self.columns = x, y, numbers, ', '.join(names or ['f'])
        side.copy(name + '_train', x[:train], y[:train], names)
        side.copy(name + '_test', x[train:], y[train:], names)
        start = side.spent()
        rows = side.db.cursor(binary=True).execute('SELECT %s FROM %s_train' % (self.columns, name)).fetchall()
        np.array(rows if names else [r[0] for r in rows], np.float32)
        print('%s: %.2f s to bring the rows to numpy' % (self.rows, side.spent() - start), flush=True)

    def of(self, algorithm):
        """The columns of a query, its target; rows and targets here."""
        if algorithm == 'ridge':
            return self.numbers[0], 'y', self.numbers[1], self.numbers[2]
        if algorithm in ('kmeans', 'pca'):
            return self.columns, None, self.x, None
        return self.columns + ', y', 'y', self.x, self.y


def compare(side, data, case, rounds):
    """Prints a line of the table; is the goal missed?"""
    algorithm, special, options, make, figures, goal = case
    columns, target, x, y = data.of(algorithm)
    xa, xb = x[:data.train], x[data.train:]
    ya, yb = (None, None) if y is None else (y[:data.train], y[data.train:])
    query = 'SELECT %s FROM %s_' % (columns, data.name)
    key = '%s %s %s' % (data.name, algorithm, special)
    learning, metrics, models = [], [], []
    start = time.perf_counter()
    for r in range(rounds):
        seeded = {} if algorithm == 'knn' else {'random_state': r}
        side.clock(key, lambda: side.train(NAME, algorithm, query + 'train', target, **options, **seeded))
        report, training = side.trained(NAME)
        metrics.append(report)
        last = side.runs[key][-1]
        learning.append(training['train_seconds'] / last.wall * last.cpu)
        models.append(make(r))
        side.clock(key + ' peer', lambda: models[-1].fit(xa, ya))
        # A round of what takes long is enough.
        if time.perf_counter() - start > 30:
            break
    if target:
        metrics = side.evaluate(NAME, query + 'test')
    of = side.mean if algorithm == 'kmeans' else side.least
    ours, theirs = of(key), of(key + ' peer')
    learning = np.mean(learning) if algorithm == 'kmeans' else np.min(learning)
    missed = goal is not None and learning / theirs.cpu > goal
    print('| %s%s | %s | %.3f | %.3f | %.3f | %.2f | %.2f%s | %s / %s |' % (
        algorithm, special and ', ' + special, data.rows, ours.cpu, learning, theirs.cpu, ours.cpu / theirs.cpu, learning / theirs.cpu,
        '' if goal is None else ' (≤ %.1f%s)' % (goal, ', MISSED' if missed else ''), *figures(metrics, models, xb, yb)), flush=True)
    return missed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--only', help='algorithms, with commas between')
    parser.add_argument('--sets', default='sdss17,synthetic')
    parser.add_argument('--rounds', type=int)
    parser.add_argument('--quick', action='store_true')
    args = parser.parse_args()
    rounds = args.rounds or (1 if args.quick else 5)
    warnings.filterwarnings('ignore', category=UserWarning)      # LightGBM was fitted with arrays without names
    warnings.filterwarnings('ignore', category=FutureWarning)    # SVC(probability=True) will go
    wanted = args.only and args.only.split(',')
    missed = 0
    with Side() as side:
        jobs = []
        if 'sdss17' in args.sets:
            x, y = sdss17()
            order = np.random.default_rng(0).permutation(len(x))
            x, y = x[order], y[order]
            jobs.append((Set(side, 'stars', x, y, len(x) * 4 // 5, SDSS17,
                             (', '.join(SDSS17[:7]) + ', redshift AS y', x[:, :7], x[:, 7])), STARS))
        if 'synthetic' in args.sets:
            n = 200000 if args.quick else 1000000
            x, y = synthetic(n + 50000)
            jobs.append((Set(side, 'few', x[:25000], y[:25000], 20000), FEW))
            jobs.append((Set(side, 'many', x, y, n, None,
                             ("f, (y = '1')::int AS y", x, (y == '1').astype(np.float32))), MANY))
        print('\n| | rows | train_model() s | learning s | peer s | ratio | of learning (goal) | held-out rows, ours / peer |')
        print('|---|---|---|---|---|---|---|---|')
        for data, cases in jobs:
            for case in cases:
                if not wanted or case[0] in wanted:
                    missed += compare(side, data, case, rounds)
        side.db.execute('SELECT millrace.drop_model(%s)', [NAME])
    return int(missed > 0)


if __name__ == '__main__':
    sys.exit(main())
