# timeout: 600
"""Single operators with random shapes, types and attributes agree with ONNX Runtime.

  COUNT=300 SEED=1000 t/test_nn_attributes.py [kind …]        more of it, or of some kinds only

Left out, because ONNX Runtime differs from ONNX there: auto_pad of pools with dilations or of int8, align_corners with
scales.
"""
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.environ.get('TOOL', os.path.join(ROOT, 'unit', 'bin', 'nn_run'))
try:
    import numpy as np
    import onnxruntime
    from onnx import helper, numpy_helper
except ImportError as e:
    skip_all(str(e))

folder = os.environ.get('MILLRACE_TMP', 'tmp/test_nn_attributes')
os.makedirs(folder, exist_ok=True)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 4
R = random.Random()
G = np.random.default_rng()


def normal(*shape):
    return np.asarray(G.standard_normal(shape), np.float32)


def dims(n, low=1, high=6):
    return [R.randint(low, high) for _ in range(n)]


def ints(*values):
    return np.array(values, np.int64)


def maybe(chance, value, otherwise=None):
    return value if R.random() < chance else otherwise


def window(axes, kernel, dilated=True):
    at = {'strides': dims(axes, 1, 3)}
    if dilated:
        at['dilations'] = dims(axes, 1, 2)
        at['pads'] = [R.randint(0, min(kernel[i % axes] - 1, 2)) for i in range(2 * axes)]
    else:
        at['auto_pad'] = R.choice(['SAME_UPPER', 'SAME_LOWER', 'VALID'])
    return at


# Each kind: operator, inputs (None: omitted), which of them are constants, outputs, opset, attributes.

def conv():
    n, g = R.randint(1, 3), R.choice([1, 1, 2])
    ci, co, k = g * R.randint(1, 3), g * R.randint(1, 3), dims(n, 1, 4)
    x = normal(R.randint(1, 2), ci, *dims(n, 7, 9))
    return 'Conv', [x, normal(co, ci // g, *k), maybe(.5, normal(co))], maybe(.5, {1, 2}, set()), 1, 13, \
        dict(window(n, k, R.random() < .7), group=g)


def conv_transpose():
    n, g = R.randint(1, 3), R.choice([1, 1, 2])
    ci, co, k = g * R.randint(1, 3), g * R.randint(1, 3), dims(n, 1, 4)
    at = dict(window(n, k), group=g)
    if R.random() < .4:
        at['output_padding'] = [R.randint(0, s - 1) for s in at['strides']]
    return 'ConvTranspose', [normal(R.randint(1, 2), ci, *dims(n, 3, 6)), normal(ci, co // g, *k), maybe(.5, normal(co))], \
        {1}, 1, 13, at


def pool():
    n = R.randint(1, 3)
    k = dims(n, 1, 4)
    x = normal(R.randint(1, 2), R.randint(1, 3), *dims(n, 7, 9))
    op = R.choice(['MaxPool', 'AveragePool', 'LpPool'])
    at = dict(window(n, k, R.random() < .7), kernel_shape=k)
    if op == 'LpPool':
        return op, [x], set(), 1, 18, dict(at, p=R.choice([1, 2, 3]))
    at['ceil_mode'] = int('pads' in at and R.random() < .3)
    if op == 'AveragePool':
        return op, [x], set(), 1, 19, dict(at, count_include_pad=R.randint(0, 1))
    outputs = R.choice([1, 2])
    if outputs == 1 and 'pads' in at and R.random() < .3:
        x = (x * 50).astype(np.int8)
    return op, [x], set(), outputs, 12, dict(at, storage_order=R.randint(0, outputs - 1))


def resize():
    mode, opset = R.choice(['nearest', 'linear', 'cubic']), R.choice([11, 13, 18, 19])
    at = dict(mode=mode, coordinate_transformation_mode=R.choice(['half_pixel', 'pytorch_half_pixel', 'asymmetric']))
    if mode == 'nearest':
        at['nearest_mode'] = R.choice(['round_prefer_floor', 'round_prefer_ceil', 'floor', 'ceil'])
    if mode == 'cubic':
        at['exclude_outside'] = R.randint(0, 1)
        at['cubic_coeff_a'] = R.choice([-.5, -.75])
    x = normal(1, R.randint(1, 3), *dims(2, 2, 8))
    if R.random() < .5:
        scales = np.array([1, 1, R.choice([.5, 1, 2, 1.5, 3]), R.choice([.5, 1, 2, 2.5, .75])], np.float32)
        return 'Resize', [x, None, scales], {2}, 1, opset, at
    return 'Resize', [x, None, None, ints(*x.shape[:2], *dims(2, 2, 12))], {3}, 1, opset, at


def reduction():
    x = normal(*maybe(.7, dims(R.randint(1, 5)), [R.choice([1, 3, 70, 300]) for _ in range(2)]))
    op = R.choice(['Sum', 'Mean', 'Max', 'Min', 'Prod', 'L1', 'L2', 'LogSumExp', 'SumSquare'])
    if op in ('Sum', 'Max', 'Min', 'L1', 'SumSquare') and R.random() < .4:
        x = (x * 3).astype(R.choice([np.int32, np.int64]))
    axes = R.sample(range(x.ndim), R.randint(1, x.ndim))
    return 'Reduce' + op, [x, ints(*axes)], {1}, 1, 18, dict(keepdims=R.randint(0, 1))


def along_axis():
    x = np.round(normal(*dims(R.randint(1, 4), 1, 9)) * 3)
    axis = R.randint(-x.ndim, x.ndim - 1)
    op = R.choice(['ArgMax', 'ArgMin', 'TopK', 'CumSum', 'Softmax', 'LogSoftmax', 'Hardmax', 'LpNormalization'])
    if op.startswith('Arg'):
        return op, [x], set(), 1, 13, dict(axis=axis, keepdims=R.randint(0, 1), select_last_index=R.randint(0, 1))
    if op == 'TopK':
        return op, [maybe(.5, x, x.astype(np.int64)), ints(R.randint(1, x.shape[axis]))], {1}, 2, 11, \
            dict(axis=axis, largest=R.randint(0, 1))
    if op == 'CumSum':
        return op, [x, np.array(axis)], set(), 1, 14, dict(exclusive=R.randint(0, 1), reverse=R.randint(0, 1))
    return op, [x], set(), 1, 13 if op[0] == 'L' and op[1] == 'p' else R.choice([11, 13]), dict(axis=axis % x.ndim)


def elementwise():
    full = maybe(.8, dims(R.randint(0, 4), 1, 4), [R.choice([1, 40]), 300])
    op = R.choice(['Add', 'Sub', 'Mul', 'Div', 'Max', 'Min', 'Pow', 'Mod', 'Less', 'Equal', 'LessOrEqual', 'Where',
                   'BitwiseAnd', 'BitwiseXor'])
    kind = np.float32 if op == 'Pow' else R.choice([np.int32, np.int64] + ([] if op[:3] == 'Bit' else [np.float32]))

    def operand():
        shape = maybe(.7, [d if R.random() < .7 else 1 for d in full[R.randint(0, len(full)):]], full)
        a = normal(*shape) * 3
        a = np.where(abs(a) < 1, 1, a) if op in ('Div', 'Mod') else abs(a) if op == 'Pow' else a
        return np.asarray(a).astype(kind)

    if op == 'Where':
        return op, [np.asarray(operand() > 0), operand(), operand()], set(), 1, 16, {}
    return op, [operand(), operand()], set(), 1, 18, {'fmod': 1} if op == 'Mod' and kind == np.float32 else {}


def indexed():
    x = normal(*dims(R.randint(1, 4), 1, 5))
    axis, q = R.randint(0, x.ndim - 1), R.randint(1, x.ndim)
    op = R.choice(['Gather', 'GatherElements', 'ScatterElements', 'GatherND', 'ScatterND'])
    index = G.integers(-x.shape[axis], x.shape[axis], [R.randint(1, d) for d in x.shape])
    positions = np.stack([G.integers(-d, d, R.randint(3, 3)) for d in x.shape[:q]], 1)
    if op == 'GatherND':
        return op, [x, positions], set(), 1, 13, {}
    if op == 'ScatterND':
        return op, [x, positions, normal(3, *x.shape[q:])], set(), 1, 18, dict(reduction=R.choice(['add', 'max', 'min']))
    if op == 'ScatterElements':
        return op, [x, index, normal(*index.shape)], set(), 1, 18, dict(axis=axis, reduction=R.choice(['add', 'mul', 'max']))
    return op, [x, index], set(), 1, 13, dict(axis=axis)


def recurrent():
    op, direction = R.choice(['RNN', 'GRU', 'LSTM']), R.choice(['forward', 'reverse', 'bidirectional'])
    d, gates = 1 + (direction == 'bidirectional'), {'RNN': 1, 'GRU': 3, 'LSTM': 4}[op]
    steps, batch, width, hidden = R.randint(1, 5), R.randint(1, 3), R.randint(1, 20), R.randint(1, 20)
    inputs = [normal(steps, batch, width), normal(d, gates * hidden, width) / 2, normal(d, gates * hidden, hidden) / 2,
              maybe(.7, normal(d, 2 * gates * hidden)), maybe(.4, G.integers(1, steps + 1, batch).astype(np.int32)),
              maybe(.5, normal(d, batch, hidden))]
    at = dict(direction=direction, hidden_size=hidden)
    if op == 'LSTM':
        inputs += [maybe(.5, normal(d, batch, hidden)), maybe(.5, normal(d, 3 * hidden))]
    if op == 'GRU':
        at['linear_before_reset'] = R.randint(0, 1)
    if R.random() < .3:
        at['clip'] = 1.5
    return op, inputs, {1, 2, 3}, 3 if op == 'LSTM' else 2, 14, at


def moved():
    x = normal(*dims(R.randint(1, 5)))
    x = maybe(.6, x, (x * 9).astype(R.choice([np.int64, np.int32])))
    op = R.choice(['Pad', 'Slice', 'Transpose', 'Tile', 'Expand'])
    if op == 'Pad':
        mode = R.choice(['constant', 'edge', 'reflect', 'wrap'])
        most = [min(2, d - 1) if mode == 'reflect' else 2 for d in x.shape]
        return op, [x, ints(*[R.randint(0, m) for m in most + most])], {1}, 1, 19, dict(mode=mode)
    if op == 'Slice':
        axes = R.sample(range(x.ndim), R.randint(1, x.ndim))
        return op, [x, ints(*dims(len(axes), -7, 7)), ints(*dims(len(axes), -9, 9)), ints(*axes),
                    ints(*[R.choice([1, 1, 2, -1, -2]) for _ in axes])], {1, 2, 3, 4}, 1, 13, {}
    if op == 'Transpose':
        return op, [x], set(), 1, 13, dict(perm=R.sample(range(x.ndim), x.ndim))
    if op == 'Tile':
        return op, [x, ints(*dims(x.ndim, 1, 3))], {1}, 1, 13, {}
    return op, [x, ints(R.randint(1, 3), *[d if d > 1 else R.randint(1, 3) for d in x.shape])], {1}, 1, 13, {}


def sampled():
    x = normal(R.randint(1, 2), R.randint(1, 3), *dims(2, 2, 6))
    if R.random() < .5:
        return 'GridSample', [x, normal(x.shape[0], *dims(2, 1, 5), 2) * np.float32(.9)], set(), 1, 16, \
            dict(mode=R.choice(['bilinear', 'nearest', 'bicubic']), align_corners=R.randint(0, 1),
                 padding_mode=R.choice(['zeros', 'border', 'reflection']))
    n = R.randint(1, 4)
    corner = G.random((n, 2)) * 6
    rois = np.concatenate([corner, corner + G.random((n, 2)) * 6], 1).astype(np.float32)
    return 'RoiAlign', [x, rois, G.integers(0, x.shape[0], n)], set(), 1, R.choice([10, 16]), \
        dict(output_height=R.randint(1, 4), output_width=R.randint(1, 4), sampling_ratio=R.randint(0, 3))


def loss():
    n, classes, rest = R.randint(1, 4), R.randint(2, 5), dims(R.randint(0, 2), 1, 4)
    at = dict(reduction=R.choice(['none', 'sum', 'mean']))
    if R.random() < .4:
        at['ignore_index'] = 1
    return 'SoftmaxCrossEntropyLoss', [normal(n, classes, *rest), G.integers(0, classes, [n] + rest),
                                       maybe(.5, abs(normal(classes)))], set(), 2, 13, at


KINDS = [conv, conv_transpose, pool, resize, reduction, along_axis, elementwise, indexed, recurrent, moved, sampled, loss]


def build(op, inputs, constants, outputs, opset, attributes):
    while inputs[-1] is None:
        inputs = inputs[:-1]
    names = ['' if a is None else 'x%d' % i for i, a in enumerate(inputs)]
    given = [(n, a) for i, (n, a) in enumerate(zip(names, inputs)) if n and i not in constants]
    results = ['y%d' % i for i in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op, names, results, **attributes)], 'g',
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in given],
        [helper.make_empty_tensor_value_info(r) for r in results],
        [numpy_helper.from_array(inputs[i], names[i]) for i in constants if i < len(inputs) and names[i]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=8)
    return model.SerializeToString(), dict(given)


def run(bytes_, given, expected):
    """None if it is right, else what is wrong."""
    path = folder + '/model.onnx'
    with open(path, 'wb') as f:
        f.write(bytes_)
    command = [TOOL, path, '--out', folder + '/out']
    for n, a in given.items():
        np.ascontiguousarray(a).tofile('%s/%s' % (folder, n))
        command += ['--in', '%s/%s' % (folder, n)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if ran.returncode != 0:
        return 'exit %d: %s' % (ran.returncode, ran.stderr.strip()[:200])
    for i, e in enumerate(expected):
        got = np.fromfile('%s/out.%d' % (folder, i), e.dtype)
        if got.size != e.size or not np.allclose(got, e.ravel(), rtol=1e-3 if e.dtype.kind == 'f' else 0, atol=1e-5,
                                                 equal_nan=True):
            return 'output %d: %s, not %s' % (i, got[:6], e.ravel()[:6])
    return None


count, first = int(os.environ.get('COUNT', 40)), int(os.environ.get('SEED', 0))
for kind in KINDS:
    if len(sys.argv) > 1 and kind.__name__ not in sys.argv[1:]:
        continue
    compared, wrong = 0, []
    for seed in range(first, first + count):
        R.seed('%s %d' % (kind.__name__, seed))
        G = np.random.default_rng(R.getrandbits(32))
        case = kind()
        bytes_, given = build(*case)
        try:
            session = onnxruntime.InferenceSession(bytes_, options, providers=['CPUExecutionProvider'])
            expected = session.run(None, given)
        except Exception:           # not every combination exists there
            continue
        if any(e.size == 0 for e in expected):
            continue
        compared += 1
        fault = run(bytes_, given, expected)
        if fault:
            wrong.append('seed %d, %s %s: %s' % (seed, case[0], case[5], fault))
    for w in wrong[:5]:
        note(w)
    ok(not wrong and compared >= count / 2, '%s: %d random cases agree with ONNX Runtime' % (kind.__name__, compared))
done()
