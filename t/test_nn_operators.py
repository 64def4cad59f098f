# timeout: 600
"""The operator cases of the onnx package, opset 7 to 22: right, or refused for a reason listed here.

They cover what the archive of unit/test_nn_conformance.c is too old for: Resize 18, GridSample, LayerNormalization,
DFT, ...  A case of a later opset is run as opset 22 if it is valid there: most later versions only add types.

  t/test_nn_operators.py [pattern]        only these cases, and every refusal is shown
"""
import collections
import os
import re
import subprocess
import sys
import warnings

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.environ.get('TOOL', os.path.join(ROOT, 'unit', 'bin', 'nn_run'))
warnings.simplefilter('ignore')
try:
    import ml_dtypes
    import numpy as np
    import onnx
    from onnx import checker, numpy_helper
    from onnx.backend.test.loader import load_model_tests
except ImportError as e:
    skip_all(str(e))

# Cases that must stay right: raise it when the engine learns more.
FLOOR = 1350
MAX_OPSET = 22
LAST = {'': MAX_OPSET, 'ai.onnx.ml': 5}

# Why a case may be refused: what the engine says, and the class it belongs to.
REASONS = [
    (r'operator (If|Loop|Scan) ', 'control flow'),
    (r'operator (Sequence|Optional|SplitTo|ConcatFrom)\w* |not a dense tensor|^not tensors', 'sequences, optionals, maps'),
    (r'^strings|operator (TfIdfVectorizer|String\w+|Regex\w+) ', 'strings and n-grams'),
    (r'operator ImageDecoder ', 'image files: millrace.image decodes them'),
    (r'operator (Bernoulli|Random\w+|Multinomial) |training mode', 'training, random results'),
    (r'has type (unknown|float8|u?int4|complex)|casts to unknown', 'float8, int4, complex numbers'),
    (r'opset \d; 7 to 22', 'opsets before 7'),
]

folder = os.environ.get('MILLRACE_TMP', 'tmp/test_nn_operators')
os.makedirs(folder, exist_ok=True)


def readable(model):
    """The model as opset 22 at most, None if it is not valid then."""
    opsets = {o.domain: o for o in model.opset_import}
    if set(opsets) - set(LAST):
        return None
    model = onnx.ModelProto.FromString(model.SerializeToString())
    late = [o for o in model.opset_import if o.version > LAST[o.domain]]
    for o in late:
        o.version = LAST[o.domain]
    try:
        if late:
            checker.check_model(model, full_check=True)
    except Exception:
        return None
    return model


def arrays(values):
    out = []
    for v in values:
        if isinstance(v, onnx.TensorProto):
            v = numpy_helper.to_array(v)
        elif isinstance(v, (list, dict, type(None))):
            raise TypeError('not tensors')
        v = np.asarray(v)
        if v.dtype.kind in 'OUST':
            raise TypeError('strings')
        out.append(v)
    return out


def visible(a):
    """As the engine's border has it: every other float is float32."""
    return a.astype(np.float32) if a.dtype in (np.float16, np.float64, ml_dtypes.bfloat16) else a


def tolerances(dtype):
    """Relative, absolute: half types were rounded at each step of the reference."""
    if dtype == ml_dtypes.bfloat16:
        return 1e-2, 1e-2
    if dtype == np.float16:
        return 5e-3, 1e-3
    return (1e-3, 1e-5) if dtype.kind == 'f' else (0, 0)


def run(model, inputs, outputs):
    """None if it is right; ('refused' or 'wrong', why) otherwise."""
    path = folder + '/model.onnx'
    with open(path, 'wb') as f:
        f.write(model.SerializeToString())
    command = [TOOL, path, '--out', folder + '/out']
    for i, a in enumerate(inputs):
        np.ascontiguousarray(visible(a)).tofile('%s/in.%d' % (folder, i))
        command += ['--shape', 'x'.join(map(str, a.shape)), '--in', '%s/in.%d' % (folder, i)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return 'wrong', 'hangs'
    if ran.returncode == 3:
        return 'refused', (ran.stderr.splitlines() or ['silent'])[0]
    if ran.returncode != 0:
        return 'wrong', 'exit %d %s' % (ran.returncode, ran.stderr.strip()[:200])
    for i, a in enumerate(outputs):
        expected = visible(a)
        rtol, atol = tolerances(a.dtype)
        got = np.fromfile('%s/out.%d' % (folder, i), expected.dtype)
        if got.size != expected.size:
            return 'wrong', 'output %d has %d elements, %d expected' % (i, got.size, expected.size)
        if not np.allclose(got, expected.ravel(), rtol=rtol, atol=atol, equal_nan=True):
            return 'wrong', 'output %d: %s, expected %s' % (i, got[:6], expected.ravel()[:6])
    return None


def run_case(model, data_sets):
    for inputs, outputs in data_sets:
        try:
            inputs, outputs = arrays(inputs), arrays(outputs)
        except TypeError as e:
            return 'refused', str(e)
        verdict = run(model, inputs, outputs)
        if verdict:
            return verdict
    return None


pattern = sys.argv[1] if len(sys.argv) > 1 else ''
right, wrong, unlisted, refused = 0, [], [], collections.Counter()
for case in load_model_tests(kind='node'):
    if not re.search(pattern, case.name) or case.data_sets is None:
        continue
    model = readable(case.model or onnx.load(os.path.join(case.model_dir, 'model.onnx')))
    if model is None:
        continue
    verdict = run_case(model, case.data_sets)
    if verdict is None:
        right += 1
        continue
    if verdict[0] == 'wrong':
        wrong.append((case.name, verdict[1]))
        continue
    reason = next((r for p, r in REASONS if re.search(p, verdict[1])), None)
    refused[reason] += 1
    if reason is None or pattern:
        unlisted.append((case.name, verdict[1]))

note('%d right, %d refused, %d wrong' % (right, sum(refused.values()), len(wrong)))
for reason, n in refused.most_common():
    note('refused %4d: %s' % (n, reason))
for w in wrong[:40]:
    note('wrong: %s: %s' % w)
for u in unlisted[:40]:
    note('refused: %s: %s' % u)
ok(not wrong, 'no case gives a wrong answer')
if not pattern:
    ok(not unlisted, 'each refusal has a listed reason')
    ok(right >= FLOOR, '%d cases are right, at least %d expected' % (right, FLOOR))
done()
