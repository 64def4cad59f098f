# timeout: 900
"""Quantised models against ONNX Runtime: what its own quantize_static and quantize_dynamic make of real models,
and what unit/bin/nn_quantize makes, run by both engines.

Both compute exact sums of int8; they round at different places (a sum with its shortcut is one step here), so
outputs agree to a few quanta, and the likeliest class on almost all images.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import data, done, note, ok, skip_all

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
archive = data('cifar10_jpeg.tar.gz')
if not data('models') or not archive:
    skip_all('no real models or images')
import glob
import io
import tarfile

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from PIL import Image

FULL = bool(os.environ.get('MILLRACE_FULL'))
folder = os.environ.get('MILLRACE_TMP', 'tmp/test_nn_qdq')
os.makedirs(folder, exist_ok=True)
RUN, QUANTIZE = (os.path.join(ROOT, 'unit', 'bin', t) for t in ('nn_run', 'nn_quantize'))
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def images(split, each):
    """The first `each` images of every class, uint8, and their classes."""
    found, count = [], {}
    with tarfile.open(archive) as t:
        for m in t:
            parts = m.name.split('/')
            if m.isfile() and parts[-3] == split and count.get(parts[-2], 0) < each:
                count[parts[-2]] = count.get(parts[-2], 0) + 1
                found.append((parts[-2], Image.open(io.BytesIO(t.extractfile(m).read())).convert('RGB')))
    names = sorted(count)
    return [i for _, i in found], np.array([names.index(c) for c, _ in found])


def cifar(image):
    return ((np.asarray(image, np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)


def mobilenet(image):
    return (np.asarray(image.resize((224, 224), Image.BILINEAR), np.float32) / 127.5 - 1).transpose(2, 0, 1)


def session(path):
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    return onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])


def theirs(path, x, output):
    s = session(path)
    return np.concatenate([s.run([output], {s.get_inputs()[0].name: row[None]})[0] for row in x]).reshape(len(x), -1)


def ours(path, x, output, *more):
    names = [o.name for o in session(path).get_outputs()]
    np.ascontiguousarray(x, np.float32).tofile(folder + '/in')
    ran = subprocess.run([RUN, path, '--batch', str(len(x)), '--in', folder + '/in', '--out', folder + '/out', *more],
                         capture_output=True, text=True)
    if ran.returncode:
        note(ran.stderr)
        return None
    return np.fromfile('%s/out.%d' % (folder, names.index(output)), np.float32).reshape(len(x), -1)


def steps(path):
    return subprocess.run([RUN, path, '--plan'], capture_output=True, text=True).stdout.splitlines()


def compare(what, path, x, output, float_answers, isas=('auto',)):
    a = theirs(path, x, output)
    for isa in isas:
        b = ours(path, x, output, '--isa', isa)
        if b is None:
            ok(False, '%s runs on %s' % (what, isa))
            continue
        same = (a.argmax(1) == b.argmax(1)).mean()
        off = np.abs(a - b).max() / np.abs(a).max()
        cosine = lambda p, q: ((p * q).sum(1) / np.linalg.norm(p, axis=1) / np.linalg.norm(q, axis=1)).mean()
        ok(same >= (0.95 if 'resnet' in what else 0.85) and off < 0.1 and cosine(b, float_answers) >= min(0.99, cosine(a, float_answers) - 0.001),
           '%s on %s: likeliest class as theirs on %.1f %%, largest difference %.3f of the largest output, cosine to float32 '
           '%.5f (theirs %.5f)' % (what, isa, 100 * same, off, cosine(b, float_answers), cosine(a, float_answers)))


class Rows(CalibrationDataReader):
    def __init__(self, name, x):
        self.rows = iter([{name: row[None]} for row in x])

    def get_next(self):
        return next(self.rows, None)


shown, _ = images('train', 10 if FULL else 4)
tested, truth = images('test', 100 if FULL else 20)
MODELS = [('resnet20_cifar10', cifar, 'logits'), ('mobilenetv2_dequant_fp32', mobilenet, 'logits')]
if FULL:
    MODELS.append(('resnet56_cifar10', cifar, 'logits'))
for name, prepare, output in MODELS:
    path = data('models/%s.onnx' % name)
    few = 1 if prepare is cifar else 4
    rows = np.stack([prepare(i) for i in shown[::few]])
    x = np.stack([prepare(i) for i in tested[::few]])
    answers = theirs(path, x, output)
    entry = session(path).get_inputs()[0].name
    for kind in (QuantType.QUInt8, QuantType.QInt8):
        made = '%s/%s_%s.onnx' % (folder, name, kind.name)
        quantize_static(path, made, Rows(entry, rows), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=kind, weight_type=QuantType.QInt8)
        compare('quantize_static %s %s' % (name, kind.name), made, x, output, answers,
                ('portable', 'avx2', 'auto') if name.startswith('resnet20') else ('auto',))
        plan = steps(made)
        convolutions = [s for s in plan if s.split()[0] == 'conv']
        ok(convolutions and all('uint8' in s for s in convolutions), '%d of its convolutions run in int8' % len(convolutions))
    rows.tofile(folder + '/rows')
    for method in ('minmax', 'percentile', 'entropy') if FULL else ('percentile',):
        made = '%s/%s_ours.onnx' % (folder, name)
        index = [o.name for o in session(path).get_outputs()].index(output)
        said = subprocess.run([QUANTIZE, path, '--in', folder + '/rows', '--out', made, '--method', method, '--output', str(index)],
                              capture_output=True, text=True)
        if not ok(said.returncode == 0, 'nn_quantize %s by %s: %s' % (name, method, ' '.join(said.stdout.split()))):
            note(said.stderr)
            continue
        onnx.checker.check_model(onnx.load(made), full_check=True)
        compare('nn_quantize %s by %s' % (name, method), made, x, output, answers)

# A float16 graph of opset 7, and a detector, quantised on photos: written in opset 13, cosine at least 0.99.
photos = [Image.open(p).convert('RGB') for p in sorted(glob.glob(data('photos') + '/*.jpg') + glob.glob(data('coco8') + '/images/*/*.jpg'))]
PHOTO_MODELS = [('SqueezeNet_fp16', lambda i: (np.asarray(i.resize((224, 224), Image.BILINEAR), np.float32)[:, :, ::-1]
                                               - np.array([104, 117, 123], np.float32)).transpose(2, 0, 1)),
                ('mobilenetv2_dequant_fp32', mobilenet)]
if FULL:
    PHOTO_MODELS.append(('yolov8n_dequant_fp32', lambda i: (np.asarray(i.resize((640, 640), Image.BILINEAR), np.float32) / 255).transpose(2, 0, 1)))
for name, prepare in PHOTO_MODELS:
    x = np.stack([prepare(i) for i in photos]).astype(np.float32)
    x.tofile(folder + '/rows')
    made = '%s/%s_photos.onnx' % (folder, name)
    said = subprocess.run([QUANTIZE, data('models/%s.onnx' % name), '--in', folder + '/rows', '--out', made, '--every', '4'],
                          capture_output=True, text=True)
    found = dict(line.split() for line in said.stdout.splitlines())
    if not ok(said.returncode == 0 and float(found['cosine']) >= 0.99, 'nn_quantize %s on photos: %s' % (name, ' '.join(said.stdout.split()))):
        note(said.stderr)
        continue
    onnx.checker.check_model(onnx.load(made), full_check=True)
    output = session(made).get_outputs()[0].name
    a, b = theirs(made, x[:2], output), ours(made, x[:2], output)
    ok(b is not None and all((p * q).sum() >= 0.995 * np.linalg.norm(p) * np.linalg.norm(q) for p, q in zip(a, b)),
       '%s: ONNX Runtime runs the file with the same answers' % name)

# Dynamic quantisation: the ranges of the inputs are found while running.
rng = np.random.default_rng(1)
weights = {n: rng.standard_normal(s).astype(np.float32) * 0.2 for n, s in (('w1', (64, 128)), ('w2', (128, 32)))}
h = onnx.helper
graph = h.make_graph([h.make_node('MatMul', ['x', 'w1'], ['a']), h.make_node('Relu', ['a'], ['b']),
                      h.make_node('MatMul', ['b', 'w2'], ['y'])], 'two',
                     [h.make_tensor_value_info('x', 1, [16, 64])], [h.make_tensor_value_info('y', 1, [16, 32])],
                     [onnx.numpy_helper.from_array(v, n) for n, v in weights.items()])
onnx.save(h.make_model(graph, opset_imports=[h.make_opsetid('', 17)], ir_version=8), folder + '/two.onnx')
quantize_dynamic(folder + '/two.onnx', folder + '/two_dynamic.onnx', weight_type=QuantType.QInt8, per_channel=False)
x = rng.standard_normal((16, 64)).astype(np.float32)
s = session(folder + '/two_dynamic.onnx')
a = s.run(None, {'x': x})[0]
x.tofile(folder + '/in')
subprocess.run([RUN, folder + '/two_dynamic.onnx', '--in', folder + '/in', '--out', folder + '/out'], check=True)
b = np.fromfile(folder + '/out.0', np.float32).reshape(a.shape)
ok(np.abs(a - b).max() <= 0.02 * np.abs(a).max(), 'quantize_dynamic: largest difference %.4f of %.3f' % (np.abs(a - b).max(), np.abs(a).max()))
ok(sum('gemm' in p for p in steps(folder + '/two_dynamic.onnx')) == 2, 'its products are steps of int8')
done()
