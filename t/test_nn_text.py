# timeout: 600
"""Transformer blocks in the writings of several exporters: each becomes the fused steps, and gives what ONNX Runtime gives.

A block is norm(x + attention(x)), then norm(y + mlp(y)), in small operators as PyTorch 1.x, PyTorch 2.x, timm, torch.export
and optimum write them.  The plan must hold no softmax, no error function and no mean of its own; outputs within 1e-4 of the
largest, on every instruction set.  A batch gives the bits of its images alone, whatever the group that went together.
"""
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.path.join(ROOT, 'unit', 'bin', 'nn_run')
folder = os.environ.get('MILLRACE_TMP', 'tmp/test_nn_text')
os.makedirs(folder, exist_ok=True)
ROWS, HEADS, DIM = 11, 3, 20
WIDTH = HEADS * DIM


class Block:
    """Nodes and constants of a graph; every method returns the name of its result."""

    def __init__(self, seed):
        self.nodes, self.constants = [], []
        self.random = np.random.default_rng(seed)

    def constant(self, value, kind=np.float32):
        name = 'c%d' % len(self.constants)
        self.constants.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def ints(self, *value):
        return self.constant(value, np.int64)

    def op(self, kind, *inputs, outputs=1, **attributes):
        names = ['v%d_%d' % (len(self.nodes), i) for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def linear(self, x, k, n):
        w = self.constant(self.random.standard_normal((k, n)) / np.sqrt(k))
        return self.op('Add', self.constant(self.random.standard_normal(n)), self.op('MatMul', x, w))

    def norm(self, x, how):
        scale, shift = (self.constant(self.random.uniform(.5, 1.5, WIDTH)) for _ in range(2))
        eps = self.constant(1e-5)
        if how == 'operator':
            return self.op('LayerNormalization', x, scale, shift, axis=-1, epsilon=1e-5)
        if how == 'rms':
            mean = self.op('ReduceMean', self.op('Pow', x, self.constant(2.)), axes=[-1])
            inverse = self.op('Reciprocal', self.op('Sqrt', self.op('Add', mean, eps)))
            return self.op('Mul', scale, self.op('Mul', x, inverse))
        mean = self.op('ReduceMean', x, axes=[-1])
        d = self.op('Sub', x, mean)
        again = self.op('Sub', x, mean) if how == 'twice' else d
        square = self.op('Mul', again, again) if how == 'product' else self.op('Pow', again, self.constant(2.))
        deviation = self.op('Sqrt', self.op('Add', self.op('ReduceMean', square, axes=[-1]), eps))
        return self.op('Add', self.op('Mul', self.op('Div', d, deviation), scale), shift)

    def activation(self, x, how):
        one, half = self.constant(1.), self.constant(.5)
        if how == 'silu':
            return self.op('Mul', x, self.op('Sigmoid', x))
        if how == 'quick':
            return self.op('Mul', x, self.op('Sigmoid', self.op('Mul', self.constant(1.702), x)))
        if how == 'operator':
            return self.op('Gelu', x)
        if how.startswith('tanh'):
            if how == 'tanh pow':
                cube = self.op('Mul', self.constant(.044715), self.op('Pow', x, self.constant(3.)))
                inner = self.op('Mul', self.constant(np.sqrt(2 / np.pi)), self.op('Add', x, cube))
            else:
                square = self.op('Mul', self.op('Mul', self.constant(.044715), x), x)
                inner = self.op('Mul', self.op('Mul', x, self.constant(np.sqrt(2 / np.pi))), self.op('Add', one, square))
            gate = self.op('Tanh', inner)
        elif how == 'erf mul':
            gate = self.op('Erf', self.op('Mul', x, self.constant(np.sqrt(.5))))
        else:
            gate = self.op('Erf', self.op('Div', x, self.constant(np.sqrt(2))))
        gate = self.op('Add', gate, one)
        if how == 'erf half first':
            return self.op('Mul', self.op('Mul', x, half), gate)
        if how == 'erf gate':
            return self.op('Mul', x, self.op('Mul', half, gate))
        return self.op('Mul', self.op('Mul', x, gate), half)

    def heads(self, x, how, transposed=False):
        """Rows of all heads side by side -> [batch, head, row, dim], or dim before row."""
        if how == 'three':      # batch and heads as one, as bmm wants them
            y = self.op('Transpose', self.op('Reshape', x, self.ints(ROWS, HEADS, DIM)), perm=[1, 0, 2])
            return self.op('Transpose', y, perm=[0, 2, 1]) if transposed else y
        y = self.op('Reshape', x, self.ints(0, ROWS, HEADS, DIM))
        if transposed and how == 'four':
            return self.op('Transpose', y, perm=[0, 2, 3, 1])
        y = self.op('Transpose', y, perm=[0, 2, 1, 3])
        return self.op('Transpose', y, perm=[0, 1, 3, 2]) if transposed else y

    def attention(self, x, mask, heads='four', scale='div', masked=None):
        if heads in ('split', 'gather', 'slice'):
            y = self.op('Reshape', self.linear(x, WIDTH, 3 * WIDTH), self.ints(-1, ROWS, 3, HEADS, DIM))
            y = self.op('Transpose', y, perm=[2, 0, 3, 1, 4])
            if heads == 'split':
                parts = [self.op('Squeeze', p, self.ints(0)) for p in self.op('Split', y, self.ints(1, 1, 1), outputs=3, axis=0)]
            elif heads == 'gather':
                parts = [self.op('Gather', y, self.constant(i, np.int64), axis=0) for i in range(3)]
            else:
                parts = [self.op('Squeeze', self.op('Slice', y, self.ints(i), self.ints(i + 1), self.ints(0)), self.ints(0))
                         for i in range(3)]
            q, k, v = parts[0], self.op('Transpose', parts[1], perm=[0, 1, 3, 2]), parts[2]
        else:
            q, k, v = (self.heads(self.linear(x, WIDTH, WIDTH), heads, i == 1) for i in range(3))
        root = np.sqrt(DIM)
        if scale == 'halves':
            q, k = (self.op('Mul', t, self.constant(root ** -.5)) for t in (q, k))
        elif scale == 'query':
            q = self.op('Div', q, self.constant(root))
        s = self.op('MatMul', q, k)
        if scale == 'div':
            s = self.op('Div', s, self.constant(root))
        elif scale == 'mul':
            s = self.op('Mul', s, self.constant(1 / root))
        if masked in ('bias', 'both'):
            s = self.op('Add', s, self.constant(self.random.standard_normal((1, HEADS, ROWS, ROWS))))
        if masked in ('add', 'both'):
            m = self.op('Unsqueeze', mask, self.ints(1, 2))
            s = self.op('Add', s, self.op('Mul', self.op('Sub', self.constant(1.), m), self.constant(-10000.)))
        if masked == 'where':
            m = self.op('Expand', self.op('Cast', self.op('Unsqueeze', mask, self.ints(1, 2)), to=TensorProto.BOOL), self.ints(1, 1, ROWS, ROWS))
            s = self.op('Add', s, self.op('Where', m, self.constant(0.), self.constant(-np.inf)))
        p = self.op('Softmax', s, axis=-1)
        if masked == 'where':
            p = self.op('Where', self.op('IsNaN', p), self.constant(0.), p)
        y = self.op('MatMul', p, v)
        y = self.op('Transpose', y, perm=[1, 0, 2] if heads == 'three' else [0, 2, 1, 3])
        return self.linear(self.op('Reshape', y, self.ints(-1, ROWS, WIDTH)), WIDTH, WIDTH)

    def build(self, norm, act, opset=17, **attention):
        x = self.norm(self.op('Add', self.attention('x', 'mask', **attention), 'x'), norm)
        y = self.linear(self.activation(self.linear(x, WIDTH, 2 * WIDTH), act), 2 * WIDTH, WIDTH)
        out = self.norm(self.op('Add', x, y), norm)
        self.nodes[-1].output[0] = 'out'
        f = TensorProto.FLOAT
        graph = helper.make_graph(self.nodes, 'block', [helper.make_tensor_value_info('x', f, ['batch', ROWS, WIDTH]),
                                                        helper.make_tensor_value_info('mask', f, ['batch', ROWS])],
                                  [helper.make_tensor_value_info('out', f, ['batch', ROWS, WIDTH])], self.constants)
        assert out
        return helper.make_model(graph, opset_imports=[helper.make_opsetid('', opset)], ir_version=9)


BLOCKS = {
    'PyTorch 1.x': dict(norm='pow', act='erf', masked='add'),
    'PyTorch 1.x, bmm': dict(norm='twice', act='erf mul', heads='three', scale='query'),
    'PyTorch 2.x': dict(norm='operator', act='erf', scale='halves', masked='where'),
    'torch.export': dict(norm='operator', act='erf gate', heads='five', scale='halves', masked='where'),
    'relative positions': dict(norm='product', act='tanh pow', masked='both'),
    'positions alone': dict(norm='operator', act='tanh mul', scale='mul', masked='bias'),
    'ViT, Split': dict(norm='operator', act='erf half first', heads='split', scale='halves'),
    'ViT, Gather': dict(norm='pow', act='operator', opset=20, heads='gather'),
    'ViT, Slice': dict(norm='operator', act='quick', heads='slice', scale='mul'),
    'RMSNorm, SiLU': dict(norm='rms', act='silu', masked='add'),
}
FORBIDDEN = ('Softmax', 'Erf', 'ReduceMean', 'Sqrt', 'Tanh', 'Sigmoid', 'Pow', 'Transpose', 'MatMul', 'IsNaN', 'LayerNormalization', 'Mul')


def run(path, x, mask, isa='auto'):
    x.tofile(folder + '/x')
    mask.tofile(folder + '/mask')
    said = subprocess.run([TOOL, path, '--isa', isa, '--batch', str(len(x)), '--in', folder + '/x', '--in', folder + '/mask', '--out',
                           folder + '/out'], capture_output=True, text=True)
    if said.returncode:
        note(said.stderr)
        return None
    return np.fromfile(folder + '/out.0', np.float32).reshape(x.shape)


options = onnxruntime.SessionOptions()
options.log_severity_level = 3
random = np.random.default_rng(7)
x = random.standard_normal((25, ROWS, WIDTH)).astype(np.float32)
mask = (random.random((25, ROWS)) < .7).astype(np.float32)
mask[:, 0] = 1
for seed, (name, how) in enumerate(BLOCKS.items()):
    opset = how.get('opset', 17)
    model = Block(seed).build(**how)
    if opset >= 18:             # axes of ReduceMean became an input
        for n in model.graph.node:
            if n.op_type == 'ReduceMean':
                del n.attribute[:]
                n.input.append('last')
        model.graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), 'last'))
    onnx.checker.check_model(model)
    path = '%s/%d.onnx' % (folder, seed)
    onnx.save(model, path)
    net = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    three = how.get('heads') == 'three'     # written for one image
    want = np.concatenate([net.run(None, {'x': x[i:i + 1], **({'mask': mask[i:i + 1]} if len(net.get_inputs()) > 1 else {})})[0] for i in range(len(x))])
    plan = subprocess.run([TOOL, path, '--plan'], capture_output=True, text=True)
    steps = [line.split()[0] for line in plan.stdout.splitlines()]
    # the mask's own arithmetic stays
    plain = [s for s in steps if s in FORBIDDEN and not (s == 'Mul' and how.get('masked') in ('add', 'both'))]
    if not ok('attention' in steps and steps.count('gemm') == (4 if how.get('heads') in ('split', 'gather', 'slice') else 6) and
              steps.count('layer') == 2 and not plain, '%s: the plan is products, one attention, two norms' % name):
        note(plan.stdout + plan.stderr)
    for isa in ('portable', 'avx2', 'avx512'):
        got = run(path, x, mask, isa)
        if got is None:
            ok(False, '%s runs on %s' % (name, isa))
            continue
        worst = np.abs(got - want).max() / np.abs(want).max()
        ok(np.isfinite(got).all() and worst <= 1e-4, '%s on %s: %.1e from ONNX Runtime' % (name, isa, worst))
        alone = [run(path, x[i:i + 1], mask[i:i + 1], isa) for i in (0, 8, 24)]
        few = run(path, x[3:16], mask[3:16], isa)
        ok(all(a is not None and (a[0] == got[i]).all() for a, i in zip(alone, (0, 8, 24))) and (few == got[3:16]).all(),
           '%s on %s: the same bits alone, in 13 and in 25' % (name, isa))
done()
