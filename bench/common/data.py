"""The data sets of the learning benchmarks, as float32 and labels."""
import csv
import os
import pathlib

import numpy as np

DATA = pathlib.Path(os.environ.get('MILLRACE_DATA', pathlib.Path(__file__).resolve().parents[2] / '../shared/data'))
SDSS17 = 'alpha delta u g r i z redshift'.split()


def sdss17():
    """24,000 rows of 8 numbers; GALAXY, QSO, STAR."""
    with open(DATA / 'sdss17/star_classification.csv') as f:
        rows = list(csv.DictReader(f))
    return np.array([[r[c] for c in SDSS17] for r in rows], np.float32), np.array([r['class'] for r in rows])


def synthetic(rows, classes=2):
    """30 columns, 12 of them telling, 6 their mixtures; classes as text."""
    from sklearn.datasets import make_classification
    x, y = make_classification(n_samples=rows, n_features=30, n_informative=12, n_redundant=6, n_classes=classes, random_state=1)
    return x.astype(np.float32), y.astype(str)
