#!/usr/bin/env python3
"""Every learner, trained and evaluated in SQL on SDSS17, against the library its users would have left for.

    bench/sdss17.py [--seeds 10] [--only rbf_svm,knn]

80/20, seeds 0 to --seeds - 1, the same float32 rows on both sides; ours by train_model() and evaluate_model(), the
peers' defaults where the settings column says nothing else.  Classifiers: accuracy and macro F1 in points, on all eight
columns and without redshift, which nearly tells the class alone.  Regressors: R2 of redshift from u g r i z.  k-means
and PCA: share of the variance that clusters or components explain.  Prints tables for RESULTS.md: mean ± standard deviation over seeds, and the mean
of the differences.  Ends with 1 if a mean is more than 0.3 points behind.
Needs psycopg, scikit-learn, lightgbm, ../shared/data, and a server (see common/side.py).
"""
import argparse
import sys
import warnings

from common.side import Side
from common.data import SDSS17, sdss17
import numpy as np
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

POINTS = 0.3
SCALED = {'standardize': True}


def scaled(model):
    return make_pipeline(StandardScaler(), model)


def calibrated(model):
    return scaled(CalibratedClassifierCV(model, ensemble=False))


# title, algorithm, our options, the peer for a seed
CLASSIFIERS = [
    ('random_forest', 'random_forest', {}, lambda s: RandomForestClassifier(random_state=s)),
    ('extra_trees', 'extra_trees', {}, lambda s: ExtraTreesClassifier(random_state=s)),
    ('gradient_boosting', 'gradient_boosting', {}, lambda s: LGBMClassifier(random_state=s, n_jobs=1, verbose=-1)),
    ('logistic_regression', 'logistic_regression', {**SCALED, 'max_iter': 1000}, lambda s: scaled(LogisticRegression(max_iter=1000))),
    ('linear_svm', 'linear_svm', SCALED, lambda s: calibrated(LinearSVC(random_state=s))),
    ('linear_svm, not calibrated', 'linear_svm', {**SCALED, 'calibration': None}, lambda s: scaled(LinearSVC(random_state=s))),
    ('rbf_svm', 'rbf_svm', SCALED, lambda s: calibrated(SVC())),
    ('rbf_svm, not calibrated', 'rbf_svm', {**SCALED, 'calibration': None}, lambda s: scaled(SVC())),
    ('knn', 'knn', SCALED, lambda s: scaled(KNeighborsClassifier())),
]
REGRESSION = {'task': 'regression'}
REGRESSORS = [
    ('ridge', 'ridge', SCALED, lambda s: scaled(Ridge())),
    ('random_forest', 'random_forest', REGRESSION, lambda s: RandomForestRegressor(random_state=s)),
    ('extra_trees', 'extra_trees', REGRESSION, lambda s: ExtraTreesRegressor(random_state=s)),
    ('gradient_boosting', 'gradient_boosting', REGRESSION, lambda s: LGBMRegressor(random_state=s, n_jobs=1, verbose=-1)),
    ('knn', 'knn', {**REGRESSION, **SCALED}, lambda s: scaled(KNeighborsRegressor())),
]
NAME = 'bench_sdss17'


class Table:
    """Rows of a table: what both sides reached, seed by seed."""

    def __init__(self, title, figures):
        self.behind = 0
        print('\n%s\n\n| | %s |\n|%s' % (title, ' | '.join('%s: ours | peer | difference' % f for f in figures), '---|' * (1 + 3 * len(figures))))

    def row(self, title, ours, theirs):
        """Lists of seeds x figures in points, larger is better."""
        ours, theirs = np.transpose(ours), np.transpose(theirs)
        cells = ['%.2f ± %.2f | %.2f ± %.2f | %+.2f' % (a.mean(), a.std(), b.mean(), b.std(), (a - b).mean()) for a, b in zip(ours, theirs)]
        behind = (theirs - ours).mean(1).max() > POINTS
        self.behind += behind
        print('| %s | %s |%s' % (title, ' | '.join(cells), ' BEHIND' if behind else ''), flush=True)


def compare(side, table, rows, only, seeds, x, y, names, figures):
    """figures: of our evaluation and of the peer's predictions, in the table's order."""
    for title, algorithm, options, peer in rows:
        if not only(algorithm):
            continue
        ours, theirs = [], []
        for seed in range(seeds):
            xa, xb, ya, yb = train_test_split(x, y, test_size=.2, random_state=seed)
            side.db.execute('DROP TABLE IF EXISTS train, test')
            side.copy('train', xa, ya, names)
            side.copy('test', xb, yb, names)
            seeded = {} if algorithm == 'knn' else {'random_state': seed}
            side.train(NAME, algorithm, 'SELECT * FROM train', **options, **seeded)
            ours.append(figures(side.evaluate(NAME, 'SELECT * FROM test')))
            theirs.append(figures(yb, peer(seed).fit(xa, ya).predict(xb)))
        table.row(title, ours, theirs)


def class_figures(truth, predicted=None):
    if predicted is None:
        return [100 * truth['accuracy'], 100 * truth['f1_macro']]
    return [100 * (truth == predicted).mean(), 100 * f1_score(truth, predicted, average='macro')]


def value_figures(truth, predicted=None):
    if predicted is None:
        return [100 * truth['r2']]
    return [100 * (1 - ((truth - predicted) ** 2).sum() / ((truth - truth.mean()) ** 2).sum())]


def compare_unsupervised(side, table, only, seeds, x):
    z = ((x - x.mean(0)) / x.std(0)).astype(np.float32)
    for algorithm, options, peer, figure in (
            ('kmeans', {'n_clusters': 8, 'n_init': 3}, lambda s, a: KMeans(8, n_init=3, random_state=s).fit(a).inertia_,
             lambda inertia, a: 100 * (1 - inertia / ((a - a.mean(0)) ** 2).sum())),
            ('pca', {'n_components': 4}, lambda s, a: PCA(4, random_state=s).fit(a).explained_variance_ratio_,
             lambda ratio, a: 100 * np.sum(ratio))):
        if not only(algorithm):
            continue
        ours, theirs = [], []
        for seed in range(seeds):
            a = train_test_split(z, test_size=.2, random_state=seed)[0]
            side.db.execute('DROP TABLE IF EXISTS train')
            side.copy('train', a, names=SDSS17)
            side.train(NAME, algorithm, 'SELECT * FROM train', None, **options, random_state=seed)
            metrics = side.trained(NAME)[0]
            ours.append([figure(metrics.get('inertia') or metrics['explained_variance_ratio'], a)])
            theirs.append([figure(peer(seed, a), a)])
        table.row('%s %s' % (algorithm, ', '.join('%s = %s' % o for o in options.items())), ours, theirs)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--seeds', type=int, default=10)
    parser.add_argument('--only', help='algorithms, with commas between')
    args = parser.parse_args()
    warnings.filterwarnings('ignore', category=UserWarning)      # LightGBM was fitted with arrays without names
    wanted = args.only and args.only.split(',')

    def only(algorithm):
        return not wanted or algorithm in wanted

    x, y = sdss17()
    behind = 0
    with Side() as side:
        for title, columns in (('SDSS17, 8 columns', SDSS17), ('SDSS17 without redshift, 7 columns', SDSS17[:7])):
            table = Table(title, ['accuracy', 'macro F1'])
            compare(side, table, CLASSIFIERS, only, args.seeds, x[:, :len(columns)], y, columns, class_figures)
            behind += table.behind
        table = Table('redshift from u g r i z', ['R2 × 100'])
        compare(side, table, REGRESSORS, only, args.seeds, x[:, 2:7], x[:, 7], SDSS17[2:7], value_figures)
        behind += table.behind
        table = Table('standardised, without labels', ['% of variance explained'])
        compare_unsupervised(side, table, only, args.seeds, x)
        behind += table.behind
        side.db.execute('SELECT millrace.drop_model(%s)', [NAME])
    return int(behind > 0)


if __name__ == '__main__':
    sys.exit(main())
