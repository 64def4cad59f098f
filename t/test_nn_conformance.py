# lane: unit
# timeout: 600
"""ONNX's own operator cases: a case is right, or refused with a reason; a wrong number fails."""
import collections
import glob
import os
import re
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import data, done, note, ok, skip_all

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
archive = data('onnx_conformance/node_v1.8.1.tar.gz')
if not archive:
    skip_all('no conformance cases')
import numpy as np
import onnx
from onnx import numpy_helper

# Cases that must stay right: raise it when the engine learns more.
FLOOR = 390

folder = os.environ.get('MILLRACE_TMP', 'tmp/test_nn_conformance')
os.makedirs(folder, exist_ok=True)
TOOL = os.path.join(ROOT, 'unit', 'bin', 'nn_run')
with tarfile.open(archive) as t:
    t.extractall(folder)


def tensors(case, kind):
    out = []
    for path in sorted(glob.glob(case + '/test_data_set_0/%s_*.pb' % kind), key=lambda p: int(re.search(r'_(\d+)\.pb', p).group(1))):
        with open(path, 'rb') as f:
            t = onnx.TensorProto()
            t.ParseFromString(f.read())
            out.append(numpy_helper.to_array(t))
    return out


def visible(a):
    """As the engine's border has it: every other float is float32."""
    return a.astype(np.float32) if a.dtype in (np.float16, np.float64) else a


right, refused, wrong = 0, collections.Counter(), []
for model in sorted(glob.glob(folder + '/**/model.onnx', recursive=True)):
    case = os.path.dirname(model)
    name = os.path.basename(case)
    try:
        inputs, outputs = tensors(case, 'input'), tensors(case, 'output')
    except Exception as e:              # sequences, maps, strings
        refused['not tensors: ' + type(e).__name__] += 1
        continue
    if 'BFLOAT16' in name:              # the cases' files call their data uint16
        refused['bfloat16 at the border'] += 1
        continue
    if any(a.dtype.kind in 'OUS' for a in inputs + outputs):
        refused['strings'] += 1
        continue
    command = [TOOL, model, '--out', folder + '/out']
    for i, a in enumerate(inputs):
        np.ascontiguousarray(visible(a)).tofile('%s/in.%d' % (folder, i))
        command += ['--shape', 'x'.join(map(str, a.shape)), '--in', '%s/in.%d' % (folder, i)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=20)
    if ran.returncode == 3:
        refused[re.sub(r'"[^"]*"', '…', ran.stderr.splitlines()[0] if ran.stderr else 'silent')[:70]] += 1
        continue
    if ran.returncode != 0:
        wrong.append((name, 'exit %d %s' % (ran.returncode, ran.stderr.strip()[:200])))
        continue
    fault = None
    for i, expected in enumerate(outputs):
        expected = visible(expected)
        got = np.fromfile('%s/out.%d' % (folder, i), expected.dtype)
        if got.size != expected.size:
            fault = 'output %d has %d elements, %d expected' % (i, got.size, expected.size)
        elif not np.allclose(got, expected.ravel(), rtol=1e-3 if expected.dtype.kind == 'f' else 0, atol=1e-5, equal_nan=True):
            fault = 'output %d differs by %g' % (i, np.abs(got.astype(float) - expected.ravel().astype(float)).max())
    if fault:
        wrong.append((name, fault))
    else:
        right += 1

note('%d right, %d refused, %d wrong' % (right, sum(refused.values()), len(wrong)))
for reason, n in refused.most_common(12):
    note('refused %4d: %s' % (n, reason))
for w in wrong[:40]:
    note('wrong: %s: %s' % w)
ok(not wrong, 'no case gives a wrong answer')
ok(right >= FLOOR, '%d cases are right, at least %d expected' % (right, FLOOR))
done()
