# timeout: 900
"""quantize_model on real networks and images: accuracy on CIFAR-10 JPEG against the float32 versions, the stored
agreement, the int8 file in ONNX Runtime, cancel.  MILLRACE_FULL=1: all 8,000 test images, and ResNet-56."""
import io
import os
import sys
import tarfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.cluster import Cluster, SqlError, find_pg_config
from lib.tap import data, done, note, ok, same, skip_all

archive = data('cifar10_jpeg.tar.gz')
if not archive or not data('models'):
    skip_all('no real data (cifar10_jpeg.tar.gz, models)')
import numpy as np
import onnxruntime
import psycopg
from PIL import Image

FULL = bool(os.environ.get('MILLRACE_FULL'))
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
folder = os.environ.get('MILLRACE_TMP', 'tmp/test_nn_quantize')
OWN = '"mean": [0.4913, 0.4821, 0.4465], "std": [0.2452, 0.2428, 0.2606]'
IMAGENET = '"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]'
# name, file, preparation, points of accuracy that may be lost: 0.5 on all images, more where few make noise
MODELS = [('backbone', os.path.join(ROOT, 'models/cifar10/backbone.onnx'), OWN),
          ('resnet20', data('models/resnet20_cifar10.onnx'), IMAGENET)]
if FULL:
    MODELS.append(('resnet56', data('models/resnet56_cifar10.onnx'), IMAGENET))
LOSS = 0.5 if FULL else 1.0

images = {'train': [], 'test': []}
wanted = {'train': 30, 'test': 10000 if FULL else 100}
count = {}
with tarfile.open(archive) as t:
    for m in t:
        split, label = m.name.split('/')[-3:-1] if m.isfile() else (None, None)
        if split in images and count.get((split, label), 0) < wanted[split]:
            count[split, label] = count.get((split, label), 0) + 1
            images[split].append((label, t.extractfile(m).read()))
labels = sorted({label for label, _ in images['test']})

ACCURACY = """SELECT 100.0 * avg((label = (%s::text[])[best])::int) FROM images, LATERAL
    (SELECT i AS best FROM unnest(extract_descriptors(content, %s)) WITH ORDINALITY AS u(p, i) ORDER BY p DESC LIMIT 1) b
    WHERE split = 'test'"""

with Cluster(find_pg_config(), os.path.join(folder, 'pg')) as c:
    c.psql('CREATE EXTENSION millrace; CREATE TABLE images (id int GENERATED ALWAYS AS IDENTITY, split text, label text, content bytea)')
    db = psycopg.connect(c.dsn(), autocommit=True)
    with db.cursor().copy('COPY images (split, label, content) FROM STDIN (FORMAT binary)') as copy:
        copy.set_types(['text', 'text', 'bytea'])
        for split, rows in images.items():
            for label, content in rows:
                copy.write_row((split, label, content))
    one = lambda sql, *values: db.execute(sql, values).fetchone()
    calibration = "SELECT content FROM images WHERE split = 'train' ORDER BY md5(id::text)"
    for name, path, numbers in MODELS:
        with open(path, 'rb') as f:
            one('SELECT millrace.import_model(%s, %s, %s::jsonb)', name, f.read(), '{"output": "logits", "input": {%s}}' % numbers)
        started = time.monotonic()
        made, = one('SELECT millrace.quantize_model(%s, %s)', name, calibration)
        same(made, name + ':2', '%s: a new version, in %.1f s' % (name, time.monotonic() - started))
        row = one("SELECT cosine, worst_cosine, top1_agreement, holdout_rows, layers, layers_float32, size_ratio "
                  "FROM millrace.quantized_models WHERE name = %s", name)
        ok(row[0] >= 0.99 and row[2] >= 0.9 and row[3] == 60 and row[5] == [] and row[6] < 0.4,
           '%s: cosine %.5f (worst %.5f), %.1f %% of the largest answers agree, %d layers all in int8, %.2f of the bytes'
           % (name, row[0], row[1], 100 * row[2], row[4], row[6]))
        float32, = one(ACCURACY, labels, name + ':1')
        int8, = one(ACCURACY, labels, name + ':2')
        ok(int8 >= float(float32) - LOSS if isinstance(int8, float) else float(int8) >= float(float32) - LOSS,
           '%s: accuracy %.2f %% in float32, %.2f %% in int8, on %d images' % (name, float32, int8, len(images['test'])))

        # the same file in ONNX Runtime
        content, = one('SELECT millrace.model_bytes(%s)', name + ':2')
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        net = onnxruntime.InferenceSession(bytes(content), options, providers=['CPUExecutionProvider'])
        numbers = [np.array(eval('[%s]' % numbers.split('[')[k].split(']')[0]), np.float32) for k in (1, 2)]
        few = [row for row in images['test'][::max(1, len(images['test']) // 100)]]
        x = np.stack([((np.asarray(Image.open(io.BytesIO(b)).convert('RGB'), np.float32) / 255 - numbers[0]) / numbers[1])
                      .transpose(2, 0, 1) for _, b in few]).astype(np.float32)
        theirs = net.run(['logits'], {net.get_inputs()[0].name: x})[0]
        ours = np.array([one('SELECT infer(%s, %s::real[])', name + ':2', row.ravel().tolist())[0] for row in x])
        agree, off = (theirs.argmax(1) == ours.argmax(1)).mean(), np.abs(theirs - ours).max() / np.abs(theirs).max()
        ok(agree >= 0.96 and off < 0.1, '%s: ONNX Runtime runs the file: largest answers agree on %.1f %%, largest difference %.3f'
           % (name, 100 * agree, off))

    # a cancel leaves nothing behind
    before, finished = one('SELECT count(*) FROM millrace.models')[0], 0
    for ms in (5, 20, 100):
        try:
            c.psql("SET statement_timeout = %d; SELECT millrace.quantize_model('%s:1', $$%s$$)" % (ms, MODELS[-1][0], calibration))
            note('done within %d ms' % ms)
            finished += 1
        except SqlError as e:
            same(e.sqlstate, '57014', 'quantize_model is cancelled after %d ms' % ms)
    same(one('SELECT count(*) FROM millrace.models'), (before + finished,), 'and registers nothing then')
    db.close()
done()
