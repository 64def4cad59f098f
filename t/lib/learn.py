"""The learning core on the command line (unit/bin/lrn): train() and predict() with numpy arrays, and the table SDSS17.

There is one model at a time: predict() and run('…', path('model'), …) ask what train() made last.
"""
import csv
import json
import os
import subprocess
import tempfile

import numpy as np

from .tap import data

TOOL = os.path.join(os.path.dirname(__file__), '..', '..', 'unit', 'bin', 'lrn')
_folder = tempfile.TemporaryDirectory()


def path(name):
    """Of a file that goes with the test: 'model', and whatever else."""
    return os.path.join(_folder.name, name)


def run(*args):
    return json.loads(subprocess.check_output([TOOL] + [str(a) for a in args]))


def train(algorithm, x, y=None, sample_weight=None, **params):
    """y: class ids, values (floats), None where there is nothing to learn.  Returns the report."""
    regression = y is not None and y.dtype.kind == 'f'
    x.astype(np.float32).tofile(path('x'))
    if y is not None:
        y.astype(np.float32 if regression else np.int32).tofile(path('y'))
    text = {True: 'true', False: 'false', None: 'null'}
    args = ['%s=%s' % (k, text[v] if v is None or isinstance(v, bool) else v) for k, v in params.items()]
    if sample_weight is not None:
        sample_weight.astype(np.float32).tofile(path('w'))
        args.append('sample_weight=' + path('w'))
    return run('train', algorithm, path('x'), len(x), x.shape[1], '-' if y is None else path('y'),
               0 if regression or y is None else y.max() + 1, path('model'), *args)


def predict(x, outputs):
    """rows x outputs; with one output a vector."""
    x.astype(np.float32).tofile(path('q'))
    run('predict', path('model'), path('q'), len(x), path('out'))
    out = np.fromfile(path('out'), np.float32).reshape(len(x), outputs)
    return out[:, 0] if outputs == 1 else out


def sdss17():
    """Stars, galaxies and quasars: 100,000 rows of 8 numbers, and their classes; None where the data are absent."""
    file = data('sdss17/star_classification.csv')
    if not file:
        return None
    with open(file) as f:
        rows = list(csv.DictReader(f))
    x = np.array([[r[c] for c in 'alpha delta u g r i z redshift'.split()] for r in rows], dtype=np.float32)
    return x, np.unique([r['class'] for r in rows], return_inverse=True)[1]
