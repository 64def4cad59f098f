"""Sentiment by MiniLM's embeddings: a model trained in the database against scikit-learn's on the same numbers, and the one that is
shipped on SST-2's dev, by figures that its card states.  MILLRACE_FULL: all of train, and the recipe's bytes."""
# timeout: 900
import hashlib
import json
import os
import pathlib
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")   # before numpy is loaded
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import minilm, tap
from lib.cluster import Cluster, REPO
sys.path.insert(0, str(REPO / 'models' / 'sentiment'))

try:
    import numpy as np
    from sklearn.linear_model import LogisticRegression
except ImportError as e:
    tap.skip_all(str(e))

FULL = bool(os.environ.get('MILLRACE_FULL'))
PHRASES = None if FULL else 3000
CARD = 0.8108               # of models/sentiment/README.md


def numbers(c, query):
    rows = c.psql(query)
    return np.array([[float(x) for x in v.strip('{}').split(',')] for v, _ in rows], np.float32), np.array([label for _, label in rows])


def main():
    import train as recipe
    where = tap.data('sst2/train.tsv')
    if not where:
        tap.skip_all('needs the real data: sst2')
    folder = pathlib.Path(os.environ.get('MILLRACE_TMP') or REPO / 'tmp' / 'text_sentiment')
    entry = next(e for e in json.loads((REPO / 'models/MANIFEST.json').read_text())['models'] if e['name'] == 'sentiment')
    with Cluster(os.environ['MILLRACE_BIN'] + '/pg_config', folder / 'pg', conf={'shared_buffers': '256MB', 'fsync': 'off', 'millrace.isa': 'avx2'}) as c:
        c.psql('CREATE EXTENSION millrace')
        tap.ok(('sentiment:1', 'installed') in c.psql('SELECT * FROM millrace.install_models()'), 'it is installed where its encoder is not')
        minilm.install(c)
        tap.same(c.value("SELECT encode(sha256, 'hex') FROM millrace.models WHERE name = 'minilm'"), entry['training']['encoder']['sha256'], 'the encoder that the manifest names')
        recipe.load(c, os.path.dirname(where), PHRASES)

        dev, truth = numbers(c, recipe.DEV)
        right = recipe.accuracy(c, 'sentiment')
        tap.ok(abs(right - CARD) <= 1.5 / len(truth) and round(right, 4) >= 0.805, 'the shipped model is right on %.4f of %d sentences, as its card says' % (right, len(truth)))
        tap.same(c.psql("SELECT label FROM unnest(ARRAY['a gripping , beautiful film', 'a dull and lifeless mess']) WITH ORDINALITY s (t, n), classify(embed(t), 'sentiment') ORDER BY n"),
                 [('positive',), ('negative',)], 'in one line of SQL')

        recipe.train(c, 'ours')
        x, y = numbers(c, recipe.TRAIN)
        theirs = LogisticRegression(C=recipe.OPTIONS['C'], max_iter=recipe.OPTIONS['max_iter'], tol=1e-6).fit(x.astype(float), y)
        said = np.array([r[0] for r in c.psql("SELECT r.label FROM (SELECT array_agg(embedding ORDER BY n) AS e FROM sst WHERE split = 'dev') a, "
                                              "millrace.classify_rows(a.e, 'ours') WITH ORDINALITY r (label, confidence, model, n) ORDER BY r.n")])
        same = (said == theirs.predict(dev)).mean()
        mine, sklearns = recipe.accuracy(c, 'ours'), (theirs.predict(dev) == truth).mean()
        tap.ok(same >= 0.995, 'trained on %d phrases: scikit-learn says the same of %.4f of the sentences' % (len(y), same))
        tap.ok(abs(mine - sklearns) <= 0.005 and mine > 0.72, 'and is right on %.4f, where ours is on %.4f' % (sklearns, mine))
        if FULL:
            tap.ok(mine >= 0.805, 'all of train: at least 80.5 %')
            digest = hashlib.sha256(bytes.fromhex(c.value("SELECT encode(millrace.model_bytes('ours'), 'hex')"))).hexdigest()
            tap.same(digest, entry['sha256'], 'the recipe gives the shipped bytes')
    tap.done()


if __name__ == '__main__':
    main()
