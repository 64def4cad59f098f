# timeout: 900
"""The real models give what ONNX Runtime gives, on every photo and every instruction set of this machine.

Relative error = max |ours - theirs| / max |theirs|, per photo: 1e-4 for float32 graphs, 1e-2 for the float16
one (ONNX Runtime computes it in float16 or float32 by its own choice).  The photo is turned into the tensor
here, by Pillow and numpy, for both engines alike.  With precision bfloat16, with and without arithmetic in it:
cosine of the outputs at least 0.9995 on the average of the photos.
"""
import glob
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import data, done, note, ok, skip_all

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if not data('models'):
    skip_all('no real models')
import numpy as np
import onnxruntime
from PIL import Image

folder = os.environ.get('MILLRACE_TMP', 'tmp/test_nn_models')
os.makedirs(folder, exist_ok=True)
TOOL = os.path.join(ROOT, 'unit', 'bin', 'nn_run')
IMAGENET = (np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32))


def cifar(image):
    x = np.asarray(image.resize((32, 32), Image.BILINEAR), np.float32) / 255
    return ((x - IMAGENET[0]) / IMAGENET[1]).transpose(2, 0, 1)


def mobilenet(image):
    return (np.asarray(image.resize((224, 224), Image.BILINEAR), np.float32) / 127.5 - 1).transpose(2, 0, 1)


def squeezenet(image):
    x = np.asarray(image.resize((224, 224), Image.BILINEAR), np.float32)[:, :, ::-1]
    return (x - np.array([104, 117, 123], np.float32)).transpose(2, 0, 1)


models = [(data('models/resnet20_cifar10.onnx'), cifar, 1e-4), (data('models/resnet56_cifar10.onnx'), cifar, 1e-4),
          (data('models/mobilenetv2_dequant_fp32.onnx'), mobilenet, 1e-4), (data('models/SqueezeNet_fp16.onnx'), squeezenet, 1e-2),
          (os.path.join(ROOT, 'models', 'cifar10', 'backbone.onnx'), cifar, 1e-4)]
photos = sorted(glob.glob(data('photos') + '/*.jpg') + glob.glob(data('coco8') + '/images/*/*.jpg'))
ok(len(photos) >= 17, '%d photos' % len(photos))
loaded = [Image.open(p).convert('RGB') for p in photos]

options = onnxruntime.SessionOptions()
options.log_severity_level = 3
for path, prepare, bound in models:
    name = os.path.basename(path)
    net = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    spec = net.get_inputs()[0]
    x = np.stack([prepare(i) for i in loaded]).astype(np.float32)
    kind = np.float16 if spec.type == 'tensor(float16)' else np.float32
    theirs = [net.run(None, {spec.name: row[None].astype(kind)}) for row in x]
    x.astype(kind).astype(np.float32).tofile(folder + '/in')
    for isa in ('portable', 'avx2', 'avx512'):
        said = subprocess.run([TOOL, path, '--isa', isa, '--batch', '1' if spec.shape[0] == 1 else str(len(photos)), '--describe'],
                              capture_output=True, text=True)
        if 'isa %s' % isa not in said.stdout:
            if said.returncode == 3 and 'lack' in said.stderr:
                note('this CPU lacks %s' % isa)
                continue
            ok(False, '%s compiles for %s: %s' % (name, isa, said.stderr.strip()))
            continue
        ran = subprocess.run([TOOL, path, '--isa', isa, '--batch', str(len(photos)), '--in', folder + '/in', '--out', folder + '/out'],
                             capture_output=True, text=True)
        if not ok(ran.returncode == 0, '%s runs on %s' % (name, isa)):
            note(ran.stderr)
            continue
        for i, output in enumerate(net.get_outputs()):
            ours = np.fromfile('%s/out.%d' % (folder, i), np.float32).reshape(len(photos), -1)
            worst = max(float(np.abs(a - b[i].astype(np.float32).ravel()).max() / max(np.abs(b[i].astype(np.float32)).max(), 1e-30))
                        for a, b in zip(ours, theirs))
            ok(np.isfinite(ours).all() and worst <= bound,
               '%s %s on %s: worst relative error %.2g on %d photos' % (name, output.name, isa, worst, len(photos)))
    for isa in ('avx2', 'auto'):
        ran = subprocess.run([TOOL, path, '--isa', isa, '--precision', 'bfloat16', '--batch', str(len(photos)), '--in', folder + '/in',
                              '--out', folder + '/out'], capture_output=True, text=True)
        if ran.returncode == 3 and 'lack' in ran.stderr:
            continue
        for i, output in enumerate(net.get_outputs()):
            ours = np.fromfile('%s/out.%d' % (folder, i), np.float32).reshape(len(photos), -1)
            reference = np.stack([b[i].astype(np.float32).ravel() for b in theirs])
            cosine = ((ours * reference).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(reference, axis=1))
            ok(cosine.mean() >= 0.9995, '%s %s in bfloat16 on %s: cosine %.6f (worst %.6f)'
               % (name, output.name, isa, cosine.mean(), cosine.min()))
done()
