"""The recipe of models/sentiment: logistic regression on MiniLM's embeddings of SST-2, trained inside PostgreSQL.

    train.py [--data ../shared/data] [--work tmp/train] [--look]     (tools/train-models sets PG_CONFIG)

Embeds the 67,349 phrases of SST-2 train and lets millrace.train_model() fit them with its defaults; nothing is chosen by
the 872 sentences of dev, which are looked at once, for the card.  Everything runs with the kernels for AVX2, which
other instruction sets do not change by more than the last bits: so any such machine writes the same bytes.  Writes
sentiment.model beside this file and its entry of models/MANIFEST.json; with --look it only says what they would be.
"""
import argparse
import hashlib
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, 't'))
from lib import minilm
from lib.cluster import Cluster
from lib.manifest import replace

OPTIONS = {'C': 1.0, 'max_iter': 1000}
TRAIN = "SELECT embedding, label FROM sst WHERE split = 'train' ORDER BY n"
DEV = "SELECT embedding, label FROM sst WHERE split = 'dev' ORDER BY n"


def sentences(path):
    """(label, text) of each line; the first names the columns."""
    with open(path, encoding='utf8') as f:
        return [line.rstrip('\n').split('\t', 1) for line in f][1:]


def load(c, data, at_most=None):
    """Table sst (split, n, label, content, embedding): train, of which at_most are taken at even distances, and dev."""
    c.psql("CREATE TABLE sst (split text, n int, label text, content text, embedding real[], PRIMARY KEY (split, n))")
    for split in ('train', 'dev'):
        lines = sentences(os.path.join(data, split + '.tsv'))
        step = max(len(lines) // at_most, 1) if at_most and split == 'train' else 1
        rows = ['%s\t%d\t%s\t%s\n' % (split, n, ('negative', 'positive')[int(label)], text.replace('\\', '\\\\'))
                for n, (label, text) in enumerate(lines, 1) if n % step == 0]
        c.psql('COPY sst (split, n, label, content) FROM STDIN;\n' + ''.join(rows) + '\\.\n')
        # All texts of a split in one go: batches without padding.
        c.psql("UPDATE sst SET embedding = e.embedding FROM (SELECT array_agg(n ORDER BY n) AS ns, array_agg(content ORDER BY n) AS texts "
               "FROM sst WHERE split = '%s') a, LATERAL ROWS FROM (unnest(a.ns), embed(a.texts)) AS e (n, embedding) "
               "WHERE split = '%s' AND sst.n = e.n" % (split, split), timeout=7200)


def train(c, name):
    c.psql("SELECT millrace.train_model('%s', 'logistic_regression', $$%s$$, 'label', '%s')" % (name, TRAIN, json.dumps(OPTIONS)), timeout=3600)


def accuracy(c, model, query=DEV):
    evaluation = c.value("SELECT millrace.evaluate_model('%s', $$%s$$, 'label')" % (model, query))
    return float(c.value('SELECT accuracy FROM millrace.evaluations WHERE id = ' + evaluation))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--data', default=os.path.join(ROOT, '..', 'shared', 'data'))
    parser.add_argument('--work', default=os.path.join(ROOT, 'tmp', 'train'))
    parser.add_argument('--look', action='store_true')
    args = parser.parse_args()
    conf = {'shared_buffers': '256MB', 'fsync': 'off', 'max_parallel_workers_per_gather': '0', 'millrace.isa': 'avx2'}
    with Cluster(os.environ['PG_CONFIG'], os.path.join(args.work, 'sentiment'), conf=conf) as c:
        c.psql('CREATE EXTENSION millrace')
        minilm.install(c)
        load(c, os.path.join(args.data, 'sst2'))
        train(c, 'sentiment')
        right = accuracy(c, 'sentiment')
        model = bytes.fromhex(c.value("SELECT encode(millrace.model_bytes('sentiment'), 'hex')"))
        encoder = c.value("SELECT encode(sha256, 'hex') FROM millrace.models WHERE name = 'minilm'")
        fitted = float(c.value("SELECT metrics ->> 'train_accuracy' FROM millrace.models WHERE name = 'sentiment'"))
    entry = {'name': 'sentiment', 'file': 'sentiment/sentiment.model', 'sha256': hashlib.sha256(model).hexdigest(),
             'spec': {'labels': ['negative', 'positive'], 'licence': 'PostgreSQL',
                      'description': "mood of an English sentence: classify(embed(text, 'minilm'), 'sentiment')"},
             'metrics': {'dev_accuracy': round(right, 4), 'train_accuracy': round(fitted, 4)},
             'training': {'recipe': 'sentiment/train.py', 'algorithm': 'logistic_regression', 'options': OPTIONS,
                          'encoder': {'name': 'minilm', 'sha256': encoder}}}
    print(len(model), 'bytes', json.dumps(entry, indent=1))
    if not args.look:
        with open(os.path.join(HERE, 'sentiment.model'), 'wb') as f:
            f.write(model)
        replace(os.path.join(ROOT, 'models', 'MANIFEST.json'), 'sentiment/', [entry])


if __name__ == '__main__':
    main()
