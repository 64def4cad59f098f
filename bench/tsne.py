#!/usr/bin/env python3
"""t-SNE from SQL, one core, against scikit-learn and openTSNE.

    bench/tsne.py [--points 50000] [--peers sklearn,opentsne]

Points are the 64 features of CIFAR images by ResNet-20.  All start along the principal components, perplexity 30, 1,000 iterations, one thread.
CPU seconds; ours of the backend, the array's way in and out included.  Divergence: exact, of scikit-learn's own sparse affinities, for all.
scikit-learn takes ten minutes for 50,000.  Needs numpy, scikit-learn, onnxruntime, pillow, psycopg, opentsne for that peer.
"""
import argparse
import os
import sys

os.environ['NUMBA_NUM_THREADS'] = '1'

from common.side import ROOT, Side

import numpy as np

sys.path.insert(0, str(ROOT / 't'))
from lib.tsne import affinities, divergence, features


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument('--points', type=int, default=50000)
    arguments.add_argument('--peers', default='sklearn,opentsne')
    a = arguments.parse_args()
    x = features(a.points)
    n, d = x.shape
    p = affinities(x, 30)

    with Side() as s:
        def tell(who, y, said):
            print('%-12s %8.1f s   divergence %.4f   (says %.4f)' % (who, s.least(who).cpu, divergence(p, y), said), flush=True)

        s.db.execute('CREATE TEMP TABLE points (a real[])')
        s.db.execute('INSERT INTO points VALUES (%s)', (x.ravel().tolist(),))
        y, said = s.clock('millrace', lambda: s.db.execute('SELECT map, kl_divergence FROM points, millrace.tsne_fit(a, %s)', (d,)).fetchone())
        tell('millrace', np.array(y).reshape(n, 2), said)
        if 'opentsne' in a.peers:
            import openTSNE
            y = s.clock('openTSNE', lambda: openTSNE.TSNE(n_jobs=1, negative_gradient_method='fft', n_iter=750, random_state=0).fit(x))
            tell('openTSNE', np.asarray(y), y.kl_divergence)
        if 'sklearn' in a.peers:
            from sklearn.manifold import TSNE
            m = TSNE(method='barnes_hut', init='pca', random_state=0, n_jobs=1)
            y = s.clock('scikit-learn', lambda: m.fit_transform(x))
            tell('scikit-learn', y, m.kl_divergence_)


main()
