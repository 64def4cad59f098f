# timeout: 900
"""YOLOv8n finds the boxes on file on the photos, and gives what ONNX Runtime gives, on every instruction set.

Relative error = max |ours - theirs| / max |theirs|: 1e-4.  The photos are letterboxed to 640 x 640 by Pillow.
"""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import data, done, note, ok, skip_all

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if not data('models') or not data('photos'):
    skip_all('no real models')
import numpy as np
import onnxruntime
from PIL import Image

folder = os.environ.get('MILLRACE_TMP', 'tmp/test_nn_yolo')
os.makedirs(folder, exist_ok=True)
TOOL = os.path.join(ROOT, 'unit', 'bin', 'nn_run')
MODEL = data('models/yolov8n_dequant_fp32.onnx')


def letterbox(path):
    image = Image.open(path).convert('RGB')
    scale = min(640 / image.width, 640 / image.height)
    w, h = round(image.width * scale), round(image.height * scale)
    page = Image.new('RGB', (640, 640), (114, 114, 114))
    page.paste(image.resize((w, h), Image.BILINEAR), ((640 - w) // 2, (640 - h) // 2))
    return np.asarray(page, np.float32).transpose(2, 0, 1) / 255


def overlap(a, b):
    w = min(a[4], b[4]) - max(a[2], b[2])
    h = min(a[5], b[5]) - max(a[3], b[3])
    both = max(w, 0) * max(h, 0)
    return both / ((a[4] - a[2]) * (a[5] - a[3]) + (b[4] - b[2]) * (b[5] - b[3]) - both)


def boxes(output):
    """[class, score, x0, y0, x1, y1], the surest first, without those that overlap a surer one."""
    x, y, w, h = output[:4]
    label, score = output[4:].argmax(0), output[4:].max(0)
    found = []
    for i in np.argsort(-score)[:100]:
        box = [int(label[i]), float(score[i]), x[i] - w[i] / 2, y[i] - h[i] / 2, x[i] + w[i] / 2, y[i] + h[i] / 2]
        if score[i] > .25 and all(b[0] != box[0] or overlap(b, box) < .45 for b in found):
            found.append(box)
    return found


with open(data('models/yolov8n_reference.json')) as f:
    reference = json.load(f)
names = [n for n in sorted(reference) if os.path.exists(os.path.join(data('photos'), n))]
ok(len(names) >= 4, '%d photos with boxes on file' % len(names))
photos = np.stack([letterbox(os.path.join(data('photos'), n)) for n in names])
photos.tofile(folder + '/in')
options = onnxruntime.SessionOptions()
options.log_severity_level = 3
net = onnxruntime.InferenceSession(MODEL, options, providers=['CPUExecutionProvider'])
theirs = np.concatenate([net.run(None, {net.get_inputs()[0].name: x[None]})[0] for x in photos])
for isa in ('portable', 'avx2', 'avx512'):
    ran = subprocess.run([TOOL, MODEL, '--isa', isa, '--batch', str(len(names)), '--in', folder + '/in', '--out', folder + '/out'],
                         capture_output=True, text=True)
    if ran.returncode == 3 and 'instruction set' in ran.stderr:
        note('this CPU lacks %s' % isa)
        continue
    if not ok(ran.returncode == 0, 'YOLOv8n runs on %s' % isa):
        note(ran.stderr)
        continue
    ours = np.fromfile(folder + '/out.0', np.float32).reshape(theirs.shape)
    worst = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(ours, theirs))
    ok(np.isfinite(ours).all() and worst <= 1e-4, '%s: worst relative error %.2g on %d photos' % (isa, worst, len(names)))
    for name, output in zip(names, ours):
        found = boxes(output)
        missed = [want for want in reference[name] if not any(b[0] == want[0] and overlap(b, want) > .9 and
                                                              abs(b[1] - want[1]) < .05 for b in found)]
        ok(not missed and abs(len(found) - len(reference[name])) <= 1,
           '%s: %s, %d boxes, those on file among them' % (isa, name, len(found)))
        for want in missed:
            note('missed %s among %s' % (want, [[round(v, 2) for v in b] for b in found]))
done()
