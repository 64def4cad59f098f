"""The second half of the recipe: PCA and classifiers of the images pipeline, trained inside PostgreSQL.

    train_in_database.py [--data ../shared/data] [--work tmp/train]      (tools/train-models sets PG_CONFIG)

Loads the 50,000 training and 8,000 test JPEGs into a private cluster, imports backbone.onnx, and lets
millrace.train_model() fit PCA 10, 20 and 50 and the classifiers on them, all seeded.  Test images are looked at
once, for the card.  Writes *.model beside this file and its entries of models/MANIFEST.json, which install_models() reads.
"""
import argparse
import hashlib
import json
import os
import subprocess
import sys
import tarfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(ROOT, 't'))
from lib.cluster import Cluster
from lib.manifest import replace

# name, algorithm, components, options.  min_samples_leaf keeps the forests small enough to ship.
CLASSIFIERS = [
    ('cifar10_fast', 'logistic_regression', 20, {'C': 1.0, 'max_iter': 1000}),
    ('cifar10_balanced', 'random_forest', 20, {'n_estimators': 30, 'min_samples_leaf': 20, 'random_state': 0}),
    ('cifar10_accurate', 'random_forest', 20, {'n_estimators': 100, 'min_samples_leaf': 10, 'random_state': 0}),
    ('cifar10_fast10', 'logistic_regression', 10, {'C': 1.0, 'max_iter': 1000}),
    ('cifar10_fast50', 'logistic_regression', 50, {'C': 1.0, 'max_iter': 1000}),
]
DESCRIBED = {'cifar10_fast': 'logistic regression on 20 descriptors', 'cifar10_balanced': '30 trees on 20 descriptors',
             'cifar10_accurate': '100 trees on 20 descriptors', 'cifar10_fast10': 'logistic regression on 10 descriptors',
             'cifar10_fast50': 'logistic regression on 50 descriptors'}


def load(c, archive):
    """Every JPEG of the archive into table photos (split, label, name, content)."""
    c.psql('CREATE TABLE photos (split text, label text, name text, content bytea); '
           'ALTER TABLE photos ALTER content SET STORAGE EXTERNAL')
    rows = []

    def flush():
        c.psql('COPY photos FROM STDIN;\n' + ''.join(rows) + '\\.\n')
        rows.clear()
    with tarfile.open(archive) as t:
        for m in t:
            if m.isfile():
                split, label, name = m.name.split('/')[-3:]
                rows.append('%s\t%s\t%s\t\\\\x%s\n' % (split, label, name, t.extractfile(m).read().hex()))
                if len(rows) == 5000:
                    flush()
    flush()


def least_us(c, sql, rows, rounds=5):
    """Least microseconds per row of a query, timed by the server itself."""
    best = None
    for _ in range(rounds):
        plan = json.loads('\n'.join(r[0] for r in c.psql('EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ' + sql)))
        best = min(best or 1e9, plan[0]['Execution Time'])
    return round(1000 * best / rows, 2)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--data', default=os.path.join(ROOT, '..', 'shared', 'data'))
    parser.add_argument('--work', default=os.path.join(ROOT, 'tmp', 'train'))
    args = parser.parse_args()
    conf = {'shared_buffers': '1GB', 'work_mem': '256MB', 'maintenance_work_mem': '256MB', 'fsync': 'off', 'max_wal_size': '4GB',
            'max_parallel_workers_per_gather': '0'}
    entries = []

    def entry(c, reference, file, **more):
        """A manifest entry, with the model's bytes written to file unless they are there already."""
        path = os.path.join(HERE, file)
        if not file.endswith('.onnx'):
            with open(path, 'wb') as f:
                f.write(bytes.fromhex(c.value("SELECT encode(millrace.model_bytes('%s'), 'hex')" % reference)))
        with open(path, 'rb') as f:
            digest = hashlib.sha256(f.read()).hexdigest()
        entries.append({'name': reference, 'file': 'cifar10/' + file, 'sha256': digest, **more})
        print(reference, os.path.getsize(path), 'bytes', json.dumps(more.get('metrics', {})), flush=True)

    with Cluster(os.environ['PG_CONFIG'], os.path.join(args.work, 'pg'), conf=conf) as c:
        c.psql('CREATE EXTENSION millrace')
        load(c, os.path.join(args.data, 'cifar10_jpeg.tar.gz'))
        with open(os.path.join(HERE, 'backbone.json')) as f:
            spec = json.load(f)
        with open(os.path.join(HERE, 'backbone.onnx'), 'rb') as f:
            c.psql("SELECT millrace.import_model('cifar10', '\\x%s', '%s')" % (f.read().hex(), json.dumps(spec)))
        c.psql("CREATE TABLE features AS SELECT split, label, name, extract_descriptors(content, 'cifar10') AS f FROM photos", timeout=3600)
        test_rows = int(c.value("SELECT count(*) FROM features WHERE split = 'test'"))
        us = least_us(c, "SELECT extract_descriptors(content, 'cifar10') FROM photos WHERE split = 'test'", test_rows, rounds=2)
        entry(c, 'cifar10', 'backbone.onnx', spec_file='cifar10/backbone.json', metrics={'us_per_row': us},
              training={'recipe': 'cifar10/train.py'})
        for n in (10, 20, 50):
            name = 'cifar10_pca%d' % n
            c.psql("SELECT millrace.train_model('%s', 'pca', $$SELECT f FROM features WHERE split = 'train' ORDER BY label, name$$, NULL, "
                   "'{\"n_components\": %d, \"backbone\": \"cifar10\"}')" % (name, n), timeout=3600)
            kept = c.value("SELECT metrics ->> 'variance_kept' FROM millrace.models WHERE name = '%s'" % name)
            c.psql("CREATE TABLE d%d AS SELECT split, label, name, infer('%s', f) AS d FROM features" % (n, name), timeout=3600)
            us = least_us(c, "SELECT infer('%s', f) FROM features WHERE split = 'test'" % name, test_rows)
            entry(c, name, 'pca%d.model' % n, backbone='cifar10', metrics={'variance_kept': round(float(kept), 4), 'us_per_row': us},
                  training={'recipe': 'cifar10/train_in_database.py', 'n_components': n})
        for name, algorithm, n, options in CLASSIFIERS:
            c.psql("SELECT millrace.train_model('%s', '%s', $$SELECT d, label FROM d%d WHERE split = 'train' ORDER BY label, name$$, 'label', "
                   "'%s')" % (name, algorithm, n, json.dumps(dict(options, descriptors_of='cifar10_pca%d' % n))), timeout=3600)
            ask = "millrace.classify_rows((SELECT array_agg(d ORDER BY label, name) FROM d%d WHERE split = 'test'), '%s')" % (n, name)
            right = c.value("SELECT count(*) FROM ROWS FROM (%s) WITH ORDINALITY r (predicted, confidence, model, i) JOIN "
                            "(SELECT label, row_number() OVER (ORDER BY label, name) AS i FROM d%d WHERE split = 'test') t USING (i) "
                            "WHERE predicted = label" % (ask, n))
            us = least_us(c, 'SELECT count(*) FROM ' + ask, test_rows)
            train = c.value("SELECT metrics ->> 'train_accuracy' FROM millrace.models WHERE name = '%s'" % name)
            entry(c, name, name.replace('cifar10_', '') + '.model', descriptors_of='cifar10_pca%d' % n,
                  spec={'labels': spec['labels'], 'description': DESCRIBED[name]},
                  metrics={'test_accuracy': round(int(right) / test_rows, 4), 'train_accuracy': train and round(float(train), 4), 'us_per_row': us},
                  training={'recipe': 'cifar10/train_in_database.py', 'algorithm': algorithm, 'options': options})
    replace(os.path.join(ROOT, 'models', 'MANIFEST.json'), 'cifar10/', entries)


if __name__ == '__main__':
    main()
