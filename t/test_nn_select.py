# timeout: 300
"""Sizes that depend on data, values that decide about shapes, open dimensions: random cases against ONNX Runtime."""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.engine import Died, Engine, Refused
from lib.tap import done, note, ok, skip_all

try:
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as e:
    skip_all(str(e))

ROUNDS = 1000 if '--full' in sys.argv else 100
TYPE = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int64): TensorProto.INT64, np.dtype(np.bool_): TensorProto.BOOL,
        np.dtype(np.int32): TensorProto.INT32, np.dtype(np.uint8): TensorProto.UINT8}
rng = np.random.default_rng(5)
engine = Engine()


def model(nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(
        nodes, 'g', [helper.make_tensor_value_info(n, TYPE[a.dtype], dims) for n, a, dims in inputs],
        [helper.make_tensor_value_info(n, t, None) for n, t in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 13)], ir_version=8).SerializeToString()


def fault(bytes_, arrays):
    """What differs from ONNX Runtime, or None."""
    session = onnxruntime.InferenceSession(bytes_, providers=['CPUExecutionProvider'])
    expected = session.run(None, {i.name: a for i, a in zip(session.get_inputs(), arrays)})
    try:
        got = engine.run(bytes_, arrays)
    except (Refused, Died) as e:
        return str(e)
    for e, g in zip(expected, got):
        if e.shape != g.shape:
            return '%s, not %s' % (g.shape, e.shape)
        if not np.allclose(e, g, rtol=1e-4, atol=1e-5):
            return 'values differ'
    return None


def some(shape, dtype):
    if dtype == np.float32:
        return (rng.integers(-2, 3, shape) * rng.choice([0.5, 1], shape)).astype(np.float32)
    return rng.integers(0, 3 if dtype != np.bool_ else 2, shape).astype(dtype)


def shape_of(rank, low=1):
    return tuple(int(n) for n in rng.integers(low, 6, rank))


def nonzero():
    x = some(shape_of(rng.integers(1, 5)), rng.choice([np.float32, np.int64, np.bool_, np.uint8, np.int32]))
    names = ['d%d' % i for i in range(x.ndim)]
    nodes = [helper.make_node('NonZero', ['x'], ['nz']), helper.make_node('Transpose', ['nz'], ['at']),
             helper.make_node('GatherND', ['x', 'at'], ['picked']), helper.make_node('Gather', ['nz', 'zero'], ['first'], axis=0),
             helper.make_node('Mul', ['first', 'two'], ['double'])]
    return model(nodes, [('x', x, names if rng.random() < 0.5 else x.shape)],
                 [('at', TensorProto.INT64), ('picked', TYPE[x.dtype]), ('double', TensorProto.INT64)],
                 [('zero', np.int64(0)), ('two', np.array([2]))]), [x]


def compress():
    x = some(shape_of(rng.integers(1, 4)), np.float32)
    axis = int(rng.integers(-x.ndim, x.ndim))
    extra = {} if rng.random() < 0.3 else {'axis': axis}
    c = some((rng.integers(1, (x.shape[axis] if extra else x.size) + 1),), np.bool_)
    return model([helper.make_node('Compress', ['x', 'c'], ['y'], **extra), helper.make_node('Relu', ['y'], ['z'])],
                 [('x', x, x.shape), ('c', c, c.shape)], [('z', TensorProto.FLOAT)]), [x, c]


def unique():
    x = some(shape_of(rng.integers(1, 4)), rng.choice([np.float32, np.int64]))
    extra = {} if rng.random() < 0.4 else {'axis': int(rng.integers(0, x.ndim))}
    outputs = ['y', 'first', 'inverse', 'counts'][:rng.integers(1, 5)]
    return model([helper.make_node('Unique', ['x'], outputs, sorted=int(rng.integers(0, 2)), **extra)], [('x', x, x.shape)],
                 [(o, TYPE[x.dtype] if o == 'y' else TensorProto.INT64) for o in outputs]), [x]


def nms():
    n, classes, boxes = rng.integers(1, 3), rng.integers(1, 4), rng.integers(1, 60)
    centre = rng.random((n, boxes, 2)) * 10
    size = rng.random((n, boxes, 2)) * 5 + 0.1
    flag = int(rng.integers(0, 2))
    b = np.concatenate([centre, size] if flag else [centre - size / 2, centre + size / 2], 2).astype(np.float32)
    s = rng.random((n, classes, boxes)).astype(np.float32)
    most = np.array([rng.integers(0, 20)])
    numbers = [np.array([v], np.float32) for v in (rng.random(), rng.random() * 0.7)]
    inputs = [('b', b, ('n', 's', 4)), ('s', s, ('n', 'c', 's'))]
    extra = [('most', most, (1,)), ('iou', numbers[0], (1,)), ('least', numbers[1], (1,))]
    fixed = rng.random() < 0.5
    node = helper.make_node('NonMaxSuppression', ['b', 's', 'most', 'iou', 'least'], ['y'], center_point_box=flag)
    col = helper.make_node('Gather', ['y', 'two'], ['box'], axis=1)
    return model([node, col], inputs + ([] if fixed else extra), [('y', TensorProto.INT64), ('box', TensorProto.INT64)],
                 [('two', np.int64(2))] + ([(k, v) for k, v, _ in extra] if fixed else [])), [b, s] + ([] if fixed else [v for _, v, _ in extra])


def bound():
    x = some(shape_of(2, 2), np.float32)
    kind = rng.integers(0, 4)
    if kind == 0:
        v, node = np.array([rng.integers(1, 4), 1, x.shape[1]]), helper.make_node('Expand', ['x', 'v'], ['y'])
        v[1] = x.shape[0]
    elif kind == 1:
        v, node = np.array([x.shape[1], -1]), helper.make_node('Reshape', ['x', 'v'], ['y'])
    elif kind == 2:
        v, node = rng.integers(1, 4, 2), helper.make_node('Tile', ['x', 'v'], ['y'])
    else:
        v, node = rng.integers(0, 3, 4), helper.make_node('Pad', ['x', 'v'], ['y'])
    return model([node], [('x', x, ('a', 'b')), ('v', v, v.shape)], [('y', TensorProto.FLOAT)]), [x, v]


def open_shapes():
    """A layer over tokens, its shape computed from the input's own, as exporters write it."""
    batch, seq, width, heads = 1, int(rng.integers(1, 20)), 8, 2
    x = rng.standard_normal((batch, seq, width)).astype(np.float32)
    mask = np.ones((batch, seq), np.float32)
    nodes = [helper.make_node('Shape', ['x'], ['s']), helper.make_node('Gather', ['s', 'i0'], ['n'], axis=0),
             helper.make_node('Gather', ['s', 'i1'], ['l'], axis=0), helper.make_node('Concat', ['n', 'l', 'hd'], ['to'], axis=0),
             helper.make_node('MatMul', ['x', 'w'], ['q']), helper.make_node('Reshape', ['q', 'to'], ['r']),
             helper.make_node('Transpose', ['r'], ['qh'], perm=[0, 2, 1, 3]), helper.make_node('Transpose', ['r'], ['kh'], perm=[0, 2, 3, 1]),
             helper.make_node('MatMul', ['qh', 'kh'], ['a']), helper.make_node('Softmax', ['a'], ['p'], axis=-1),
             helper.make_node('MatMul', ['p', 'qh'], ['o']), helper.make_node('Transpose', ['o'], ['ot'], perm=[0, 2, 1, 3]),
             helper.make_node('Reshape', ['ot', 'back'], ['z']), helper.make_node('Unsqueeze', ['mask', 'last'], ['m']),
             helper.make_node('Mul', ['z', 'm'], ['y'])]
    return model(nodes, [('x', x, ('batch', 'seq', width)), ('mask', mask, ('batch', 'seq'))], [('y', TensorProto.FLOAT)],
                 [('i0', np.array([0])), ('i1', np.array([1])), ('hd', np.array([heads, width // heads])), ('last', np.array([2])),
                  ('back', np.array([0, 0, width])), ('w', (rng.standard_normal((width, width)) * 0.3).astype(np.float32))]), [x, mask]


for case in (nonzero, compress, unique, nms, bound, open_shapes):
    faults = []
    for i in range(ROUNDS):
        bytes_, arrays = case()
        why = fault(bytes_, arrays)
        if why:
            faults.append('%d: %s' % (i, why))
    ok(not faults, '%s: %d random cases' % (case.__name__, ROUNDS))
    for f in faults[:3]:
        note(f)
done()
