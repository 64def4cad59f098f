#!/usr/bin/env python3
"""Every classifier on SDSS17 against the library its users would have left for: accuracy, macro F1, training time.

    taskset -c 1 bench/sdss17.py [--seeds 10] [--only rbf_svm,knn]

Eight features (alpha delta u g r i z redshift), 80/20, the mean over seeds; both sides get the same float32
numbers, standardised where the algorithm needs it, and scikit-learn's or LightGBM's defaults.  Times are
interleaved, one thread, the median over seeds.  Needs unit/bin/lrn (make tools), numpy, scikit-learn, lightgbm
and ../shared/data.  Ends with 1 if an algorithm is more than 0.3 points behind.
"""
import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time

for v in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[v] = '1'
import numpy as np
from lightgbm import LGBMClassifier
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC, LinearSVC

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.path.join(ROOT, 'unit/bin/lrn')
DATA = os.environ.get('MILLRACE_DATA', os.path.join(ROOT, '../shared/data'))
POINTS = 0.3

# algorithm: (our options, the peer for a seed, standardised?)
ALGORITHMS = {
    'random_forest': ({}, lambda s: RandomForestClassifier(random_state=s, n_jobs=1), False),
    'extra_trees': ({}, lambda s: ExtraTreesClassifier(random_state=s, n_jobs=1), False),
    'gradient_boosting': ({}, lambda s: LGBMClassifier(random_state=s, n_jobs=1, verbose=-1), False),
    'logistic_regression': ({'max_iter': 1000}, lambda s: LogisticRegression(max_iter=1000), True),
    'linear_svm': ({}, lambda s: LinearSVC(random_state=s), True),
    'rbf_svm': ({}, lambda s: SVC(random_state=s), True),
    'knn': ({}, lambda s: KNeighborsClassifier(n_jobs=1), True),
}


def train_and_predict(folder, algorithm, options, xa, ya, xb):
    """Our predictions, and the seconds of training."""
    name = {k: os.path.join(folder, k) for k in ('xa', 'ya', 'xb', 'model', 'out')}
    xa.astype(np.float32).tofile(name['xa'])
    ya.astype(np.int32).tofile(name['ya'])
    xb.astype(np.float32).tofile(name['xb'])
    report = json.loads(subprocess.check_output(
        [TOOL, 'train', algorithm, name['xa'], str(len(xa)), str(xa.shape[1]), name['ya'], str(ya.max() + 1), name['model']] +
        ['%s=%s' % o for o in options.items()]))
    subprocess.check_output([TOOL, 'predict', name['model'], name['xb'], str(len(xb)), name['out']])
    return np.fromfile(name['out'], np.float32).reshape(len(xb), -1).argmax(1), report['seconds']


def figures(truth, predicted):
    return [100 * (truth == predicted).mean(), 100 * f1_score(truth, predicted, average='macro')]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--seeds', type=int, default=10)
    parser.add_argument('--only', default=','.join(ALGORITHMS))
    args = parser.parse_args()
    rows = list(csv.DictReader(open(os.path.join(DATA, 'sdss17/star_classification.csv'))))
    x = np.array([[r[c] for c in 'alpha delta u g r i z redshift'.split()] for r in rows], dtype=np.float32)
    y = np.unique([r['class'] for r in rows], return_inverse=True)[1]
    behind = 0
    print('%-20s %22s %22s %20s' % ('', 'accuracy ours / peer', 'macro F1 ours / peer', 'train s ours / peer'))
    with tempfile.TemporaryDirectory() as folder:
        for algorithm in args.only.split(','):
            options, peer, standardised = ALGORITHMS[algorithm]
            ours, theirs, seconds = [], [], []
            for seed in range(args.seeds):
                xa, xb, ya, yb = train_test_split(x, y, test_size=.2, random_state=seed)
                if standardised:
                    mean, deviation = xa.mean(0), xa.std(0)
                    xa, xb = (xa - mean) / deviation, (xb - mean) / deviation
                predicted, s = train_and_predict(folder, algorithm, dict(options, random_state=seed), xa, ya, xb)
                ours.append(figures(yb, predicted))
                xa64, model = xa.astype(np.float64), peer(seed)
                start = time.perf_counter()
                model.fit(xa64, ya)
                seconds.append((s, time.perf_counter() - start))
                theirs.append(figures(yb, model.predict(xb.astype(np.float64))))
            a, b, t = np.mean(ours, 0), np.mean(theirs, 0), np.median(seconds, 0)
            late = (b - a).max() > POINTS
            behind += late
            print('%-20s %10.2f / %9.2f %10.2f / %9.2f %8.3f / %6.3f (x %.2f)%s' %
                  (algorithm, a[0], b[0], a[1], b[1], t[0], t[1], t[0] / t[1], '  BEHIND' if late else ''))
            sys.stdout.flush()
    return behind > 0


if __name__ == '__main__':
    sys.exit(main())
