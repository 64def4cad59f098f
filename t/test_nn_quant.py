# timeout: 300
"""The quantised operators, any shape and zero point, bit by bit against ONNX Runtime or ONNX's own reference."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.path.join(ROOT, 'unit', 'bin', 'nn_run')
try:
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper, shape_inference
    from onnx.reference import ReferenceEvaluator
except ImportError as e:
    skip_all(str(e))

folder = os.environ.get('MILLRACE_TMP', 'tmp/test_nn_quant')
os.makedirs(folder, exist_ok=True)
g = np.random.default_rng(5)


def integers(dtype, *shape):
    i = np.iinfo(dtype)
    return g.integers(i.min, i.max + 1, shape).astype(dtype)


def scales(*shape):
    return g.uniform(.005, .03, shape).astype(np.float32)


def run(op, inputs, n_out=1, opset=13, expected=None, constant=(), **attributes):
    """Outputs of one node: ours, and expected or ONNX Runtime's or the reference's."""
    inputs = [None if a is None else np.asarray(a) for a in inputs]
    names = ['i%d' % i if a is not None else '' for i, a in enumerate(inputs)]
    outs = ['o%d' % i for i in range(n_out)]
    node = helper.make_node(op, names, outs, **attributes)
    weights, ports = [], []
    for i, a in enumerate(inputs):
        if a is None:
            continue
        if i in constant:
            weights.append(numpy_helper.from_array(a, names[i]))
        else:
            ports.append(helper.make_tensor_value_info(names[i], helper.np_dtype_to_tensor_dtype(a.dtype), a.shape))
    results = [helper.make_empty_tensor_value_info(o) for o in outs]
    model = helper.make_model(helper.make_graph([node], 'g', ports, results, weights),
                              opset_imports=[helper.make_opsetid('', opset)], ir_version=9)
    model = shape_inference.infer_shapes(model)
    fed = {n: a for i, (n, a) in enumerate(zip(names, inputs)) if a is not None and i not in constant}
    if expected is None:
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4
            options.intra_op_num_threads = 1
            expected = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider']).run(None, fed)
        except Exception:               # a form ONNX Runtime lacks
            expected = ReferenceEvaluator(model).run(None, fed)
    with open(folder + '/m.onnx', 'wb') as f:
        f.write(model.SerializeToString())
    command = [TOOL, folder + '/m.onnx', '--out', folder + '/y']
    for n, a in fed.items():
        a.tofile(folder + '/' + n)
        command += ['--in', folder + '/' + n]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if ran.returncode:
        note(op + ': ' + ran.stderr.strip())
        return None, expected
    got = [np.fromfile('%s/y.%d' % (folder, i), e.dtype).reshape(e.shape) if e.size * e.itemsize ==
           os.path.getsize('%s/y.%d' % (folder, i)) else None for i, e in enumerate(expected)]
    return got, expected


def same(op, what, inputs, near=0, **more):
    """near: how far an integer may be off, where two orders of float arithmetic differ."""
    got, expected = run(op, inputs, **more)
    worst = None
    if got is not None and all(a is not None for a in got):
        worst = max(np.abs(a.astype(np.float64) - e.astype(np.float64)).max() if e.size else 0 for a, e in zip(got, expected))
    ok(worst is not None and worst <= near, '%s: %s%s' % (op, what, '' if not worst else ' (off by %g)' % worst))


x = (g.standard_normal((2, 3, 5, 4)) * 2).astype(np.float32)
for t in (np.uint8, np.int8, np.int16, np.uint16):
    opset = 21 if t().itemsize > 1 else 13
    same('QuantizeLinear', 'per tensor, ' + t.__name__, [x, np.float32(.017), t(7)], opset=opset)
    same('QuantizeLinear', 'per axis, ' + t.__name__, [x, scales(5), integers(t, 5)], opset=opset, axis=-2)
    same('DequantizeLinear', 'per tensor, ' + t.__name__, [integers(t, 2, 3, 5), np.float32(.017), t(9)], opset=opset)
    same('DequantizeLinear', 'per axis, ' + t.__name__, [integers(t, 2, 3, 5), scales(3), integers(t, 3)], opset=opset)
same('DequantizeLinear', 'int32', [integers(np.int32, 3, 40), scales(40)])
same('QuantizeLinear', 'halves go to even, far values saturate', [np.array([.5, 1.5, 2.5, -.5, -1.5, 1e30, -1e30, 254.5, 255.5], np.float32), np.float32(1), np.uint8(0)])
same('QuantizeLinear', 'no zero point', [x, np.float32(.02)], opset=10)
same('QuantizeLinear', 'blocks of 2 of 5', [x, scales(2, 3, 3, 4), integers(np.int8, 2, 3, 3, 4)], opset=21, axis=2, block_size=2)
same('DequantizeLinear', 'blocks of 16 of 64', [integers(np.int8, 8, 64), scales(8, 4), integers(np.int8, 8, 4)], opset=21, axis=1, block_size=16)
same('DequantizeLinear', 'blocks on the first axis', [integers(np.uint8, 9, 6), scales(3, 6), integers(np.uint8, 3, 6)], opset=21, axis=0, block_size=3)
same('QuantizeLinear', 'output_dtype', [x, np.float32(.02), None], opset=21, output_dtype=TensorProto.INT8)
for what, v in (('both signs', x), ('positive', np.abs(x)), ('negative', -np.abs(x)), ('zeros', x * 0)):
    same('DynamicQuantizeLinear', what, [v], n_out=3)

for ta, tb in ((np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8), (np.int8, np.uint8)):
    a, b, signs = integers(ta, 2, 7, 33), integers(tb, 33, 300), '%s x %s' % (ta.__name__, tb.__name__)
    full = (a.astype(np.int32) - 11) @ (b.astype(np.int32) - 5)
    same('MatMulInteger', signs, [a, b, ta(11), tb(5)], expected=[full])
    same('MatMulInteger', signs + ', no zero points', [a, b], expected=[a.astype(np.int32) @ b.astype(np.int32)])
    zb = integers(tb, 300)
    same('MatMulInteger', signs + ', zero point per column', [a, b, ta(3), zb], expected=[(a.astype(np.int32) - 3) @ (b.astype(np.int32) - zb)])
    za = integers(ta, 7)
    same('MatMulInteger', signs + ', zero point per row', [a[0], b, za, tb(1)],
         expected=[(a[0].astype(np.int32) - za[:, None]) @ (b.astype(np.int32) - 1)])
    same('QLinearMatMul', signs, [a, np.float32(.01), ta(100), b, np.float32(.02), tb(3), np.float32(.15), ta(60)],
         expected=[np.clip(np.rint(((a.astype(np.int32) - 100) @ (b.astype(np.int32) - 3)).astype(np.float32) *
                                   (np.float32(.01) * np.float32(.02) / np.float32(.15))) + 60, np.iinfo(ta).min, np.iinfo(ta).max).astype(ta)])
    xi, w = integers(ta, 2, 6, 11, 9), integers(tb, 8, 3, 3, 3)
    window = dict(group=2, strides=[2, 1], pads=[1, 2, 0, 1], dilations=[1, 2])
    reference = ReferenceEvaluator(helper.make_model(helper.make_graph(
        [helper.make_node('Conv', ['x', 'w'], ['y'], **window)], 'g',
        [helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in 'xw'],
        [helper.make_tensor_value_info('y', TensorProto.DOUBLE, None)]), opset_imports=[helper.make_opsetid('', 13)]))
    zw = integers(tb, 8)
    for what, z in (('one zero point', tb(6)), ('zero points per channel', zw)):
        wide = w.astype(np.float64) - np.asarray(z, np.float64).reshape(-1, 1, 1, 1)
        total = reference.run(None, {'x': xi.astype(np.float64) - 40, 'w': wide})[0].astype(np.int32)
        same('ConvInteger', signs + ', ' + what, [xi, w, ta(40), z], expected=[total], **window)
        bias, ws = integers(np.int32, 8) >> 16, scales(8)
        zq = np.full(8, z) if np.ndim(z) == 0 else z
        factor = np.float32(.02) * ws / np.float32(1.5)
        y = np.rint((total + bias[:, None, None]).astype(np.float32) * factor[:, None, None]) + np.float32(50)
        same('QLinearConv', signs + ', ' + what, [xi, np.float32(.02), ta(40), w, ws, zq, np.float32(1.5), ta(50), bias],
             expected=[np.clip(y, np.iinfo(ta).min, np.iinfo(ta).max).astype(ta)], **window)
a, b = integers(np.uint8, 3, 1, 4, 8), integers(np.int8, 2, 8, 5)
same('MatMulInteger', 'batches broadcast', [a, b, np.uint8(1), np.int8(2)], expected=[(a.astype(np.int32) - 1) @ (b.astype(np.int32) - 2)])
same('MatMulInteger', 'vectors', [a[0, 0, 0], b[0], np.uint8(1), np.int8(2)], expected=[(a[0, 0, 0].astype(np.int32) - 1) @ (b[0].astype(np.int32) - 2)])
same('MatMulInteger', 'sums wrap at 32 bits', [np.full((1, 40000), 255, np.uint8), np.full((40000, 1), 255, np.uint8)],
     expected=[np.full((1, 1), np.int64(40000 * 255 * 255 - (1 << 32)), np.int64).astype(np.int32)])
same('QLinearConv', '1-D, SAME_UPPER', [integers(np.uint8, 1, 4, 13), np.float32(.02), np.uint8(128), integers(np.int8, 5, 4, 3), np.float32(.01), np.int8(0), np.float32(.05), np.uint8(10)],
     auto_pad='SAME_UPPER', strides=[2], near=1)
done()
