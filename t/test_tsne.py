#!/usr/bin/env python3
# timeout: 900
"""Latent space against scikit-learn: t-SNE, neighbours, agreement, outlier factors, silhouettes, components.

Both maps are judged by one evaluator: the exact Kullback-Leibler divergence of scikit-learn's own affinities (its sparse P),
the sum over all pairs computed in full.  Ours may be at most 5 % worse, and the neighbours that survive (trustworthiness)
as many.  Digits are in scikit-learn; features of CIFAR images are ResNet-20's, where the data are.
MILLRACE_FULL=1: 10,000 images instead of 2,000.
"""
import os
import sys

os.environ.setdefault('OMP_NUM_THREADS', '1')
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

try:
    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE, trustworthiness
    from sklearn.metrics import silhouette_samples
    from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
    import psycopg
    from lib.cluster import Cluster, find_pg_config
    from lib.tsne import IMAGES, MODEL, affinities, divergence, features
except ImportError as e:
    skip_all(str(e))

FULL = os.environ.get('MILLRACE_FULL') == '1'


def values(x):
    return np.asarray(x, np.float32).ravel().tolist()


def ours(db, x, options='{}'):
    y, kl = db.execute('SELECT map, kl_divergence FROM millrace.tsne_fit(%s::real[], %s, %s)', (values(x), x.shape[1], options)).fetchone()
    return np.array(y, np.float32).reshape(len(x), -1), kl


def compare_maps(db, name, x, perplexity=30):
    p = affinities(x, perplexity)
    mine, said = ours(db, x, '{"perplexity": %g}' % perplexity)
    m = TSNE(method='barnes_hut', init='pca', perplexity=perplexity, random_state=0, n_jobs=1)
    theirs = m.fit_transform(x)
    a, b = divergence(p, mine), divergence(p, theirs)
    note('%s: divergence %.4f / %.4f (scikit-learn says %.4f), trustworthiness %.4f / %.4f' %
         (name, a, b, m.kl_divergence_, trustworthiness(x, mine), trustworthiness(x, theirs)))
    ok(a <= 1.05 * b, '%s: divergence at most 5 %% above scikit-learn\'s' % name)
    ok(a <= 1.05 * m.kl_divergence_, '%s: and above what it says itself' % name)
    ok(abs(said / a - 1) < .001, '%s: the divergence we say is the exact one' % name)
    ok(trustworthiness(x, mine) > trustworthiness(x, theirs) - .005, '%s: as trustworthy' % name)


def compare_figures(db, x, labels):
    v, d = values(x), x.shape[1]
    names = labels.tolist()
    rows = lambda sql, *args: db.execute(sql, args).fetchall()
    nearest = NearestNeighbors(n_neighbors=10, algorithm='brute').fit(x).kneighbors()
    got = rows('SELECT neighbours, distances FROM millrace.nearest_neighbours(%s::real[], %s, 10) ORDER BY query', v, d)
    index, distance = np.array([r[0] for r in got]) - 1, np.array([r[1] for r in got])
    ok((index == nearest[1]).mean() > .99 and abs(distance - nearest[0]).max() < 1e-4 * distance.max(), 'neighbours and their distances')
    share = rows('SELECT millrace.knn_agreement(%s::real[], %s, %s::int[], 10)', v, d, names)[0][0]
    ok(abs(np.array(share) - (labels[index] == labels[:, None]).mean(1)).max() < 1e-6, 'agreement of labels')
    factor = rows('WITH n AS (SELECT * FROM millrace.nearest_neighbours(%s::real[], %s, 20)) '
                  'SELECT millrace.outlier_factors(array_agg(neighbours ORDER BY query), array_agg(distances ORDER BY query), 20) FROM n', v, d)[0][0]
    worst = abs(np.array(factor) + LocalOutlierFactor(n_neighbors=20, algorithm='brute').fit(x).negative_outlier_factor_).max()
    ok(worst < 1e-4, 'local outlier factors (%.1e)' % worst)
    far = x.copy()
    far[7] += 3 * np.abs(x).max()
    ok(8 in [r[0] for r in rows('SELECT item FROM millrace.knn_outliers(%s::real[], %s)', values(far), d)], 'a point moved away is an outlier')
    s = silhouette_samples(x, labels)
    got = rows('SELECT silhouette FROM millrace.silhouettes(%s::real[], %s, %s::int[]) ORDER BY label NULLS FIRST', v, d, names)
    want = [s.mean()] + [s[labels == c].mean() for c in sorted(set(names))]
    ok(len(got) == len(want) and all(abs(r[0] - w) < 1e-5 for r, w in zip(got, want)), 'silhouettes of all and of each label')
    sampled, mean = rows('SELECT sampled, silhouette FROM millrace.silhouettes(%s::real[], %s, %s::int[], 400) WHERE label IS NULL', v, d, names)[0]
    ok(sampled == 400 and abs(mean - s.mean()) < 4 * s.std() / 20, 'a sample of 400 gives nearly the same')
    score = np.array(rows('SELECT millrace.principal_components(%s::real[], %s, 3)', v, d)[0][0]).reshape(-1, 3)
    ok(abs(score - PCA(3).fit_transform(x)).max() < 1e-3 * abs(score).max(), 'principal components')


def main():
    folder = os.path.join(os.environ.get('MILLRACE_TMP', 'tmp/test_tsne'), 'pg')
    with Cluster(find_pg_config(), folder) as c, psycopg.connect(c.dsn(), autocommit=True) as db:
        db.execute('CREATE EXTENSION millrace')
        x, labels = load_digits(return_X_y=True)
        x = x.astype(np.float32)
        # whole numbers have ties, whose order is anybody's
        compare_figures(db, x + np.random.default_rng(0).normal(0, .01, x.shape).astype(np.float32), labels)
        compare_maps(db, 'digits', x)
        compare_maps(db, 'digits, perplexity 5', x, 5)
        space, _ = ours(db, x[:600], '{"n_components": 3}')
        ok(trustworthiness(x[:600], space) > .97, 'a map in space is trustworthy')
        try:
            if IMAGES and MODEL:
                compare_maps(db, 'CIFAR features', features(10000 if FULL else 2000))
            else:
                note('features of CIFAR images: left out, the data are not here')
        except ImportError as e:
            note(f'features of CIFAR images: left out, needs {e.name}')
    done()


main()
