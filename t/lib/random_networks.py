"""Random networks of convolutions, one per seed: what the blocked kernels and the fusions take."""
import random

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from .random_graphs import Value


class Network:
    """A graph under construction: values are (name, channels, height, width)."""

    batch = 2

    def __init__(self, seed, kinds=None):
        self.r, self.g = random.Random(seed), np.random.default_rng(seed)
        self.nodes, self.weights, self.count = [], [], 0
        self.values = [('x', self.r.choice([1, 3, 5, 16]), self.r.randint(5, 20), self.r.randint(5, 20))]
        for _ in range(self.r.randint(3, 22)):
            getattr(self, self.r.choice(kinds or KINDS))(*self.r.choice(self.values[-5:]))

    def name(self):
        self.count += 1
        return 'v%d' % self.count

    def const(self, a):
        name = self.name()
        self.weights.append(numpy_helper.from_array(np.asarray(a), name))
        return name

    def ints(self, *a):
        return self.const(np.array(a, np.int64))

    def noise(self, *shape, scale=None):
        scale = scale or 1 / np.sqrt(max(1, np.prod(shape[1:])))
        return self.const((self.g.standard_normal(shape) * scale).astype(np.float32))

    def positive(self, *shape):
        return self.const(self.g.uniform(.5, 1.5, shape).astype(np.float32))

    def add(self, op, inputs, c, h, w, **attributes):
        name = self.name()
        self.nodes.append(helper.make_node(op, inputs, [name], name='n' + name, **attributes))
        self.values.append((name, c, h, w))
        return name

    def same(self, c, h, w, but=None):
        return [u[0] for u in self.values if u[1:] == (c, h, w) and u[0] != but]

    def conv(self, v, c, h, w, groups=1, cout=None):
        r = self.r
        k, s, d = r.choice([1, 1, 2, 3, 3, 5]), r.choice([1, 1, 2, 3]), r.choice([1, 1, 1, 2])
        p = [r.randint(0, 2) for _ in range(4)]
        ho, wo = (h + p[0] + p[2] - (k - 1) * d - 1) // s + 1, (w + p[1] + p[3] - (k - 1) * d - 1) // s + 1
        if ho < 1 or wo < 1:
            return
        o = cout or r.choice([1, 8, 16, 16, 24, 32, 33])
        y = self.add('Conv', [v, self.noise(o, c // groups, k, k)] + ([self.noise(o, scale=.3)] if r.random() < .6 else []),
                     o, ho, wo, strides=[s, s], dilations=[d, d], pads=p, group=groups)
        if r.random() < .5:
            y = self.batchnorm(y, o, ho, wo)
        if r.random() < .3 and self.same(o, ho, wo, y):
            other = r.choice(self.same(o, ho, wo, y))
            y = self.add('Add', r.choice([[y, other], [other, y]]), o, ho, wo)
        if r.random() < .5:
            self.add('Relu', [y], o, ho, wo)

    def depthwise(self, v, c, h, w):
        self.conv(v, c, h, w, c, c)

    def grouped(self, v, c, h, w):
        groups = [n for n in (2, 3, 4, 8) if c % n == 0]
        if groups:
            n = self.r.choice(groups)
            self.conv(v, c, h, w, n, n * self.r.choice([1, 2, 3, 5]))

    def batchnorm(self, v, c, h, w):
        return self.add('BatchNormalization', [v, self.positive(c), self.noise(c, scale=.3), self.noise(c, scale=.3),
                                               self.positive(c)], c, h, w)

    def activation(self, v, c, h, w):
        kind = self.r.choice(['Relu', 'Sigmoid', 'Tanh', 'LeakyRelu', 'Identity', 'Clip', 'HardSigmoid', 'Elu', 'Sqrt'])
        if kind == 'Clip':
            self.add(kind, [v, self.const(np.float32(-.5)), self.const(np.float32(.7))], c, h, w)
        elif kind == 'Sqrt':
            # not of numbers near 0, where the root magnifies the last bit
            y = self.add('Add', [self.add('Abs', [v], c, h, w), self.const(np.float32(.25))], c, h, w)
            self.add(kind, [y], c, h, w)
        else:
            self.add(kind, [v], c, h, w)

    def binary(self, v, c, h, w):
        self.add(self.r.choice(['Add', 'Add', 'Sub', 'Mul', 'Max', 'Min']), [v, self.r.choice(self.same(c, h, w))], c, h, w)

    def constant(self, v, c, h, w):
        k = self.positive(*self.r.choice([(1, c, 1, 1), (c, 1, 1), (1,), ()]))
        if self.r.random() < .7:
            self.add(self.r.choice(['Mul', 'Add', 'Sub', 'Div']), [v, k], c, h, w)
        else:
            self.add(self.r.choice(['Mul', 'Add', 'Sub']), [k, v], c, h, w)

    def pool(self, v, c, h, w):
        r = self.r
        k, s, p = r.choice([2, 3]), r.choice([1, 2]), [r.randint(0, 1) for _ in range(4)]
        ho, wo = (h + p[0] + p[2] - k) // s + 1, (w + p[1] + p[3] - k) // s + 1
        if h + p[0] + p[2] < k or w + p[1] + p[3] < k:
            return
        if r.random() < .5:
            self.add('MaxPool', [v], c, ho, wo, kernel_shape=[k, k], strides=[s, s], pads=p)
        else:
            self.add('AveragePool', [v], c, ho, wo, kernel_shape=[k, k], strides=[s, s], pads=p, count_include_pad=r.choice([0, 1]))

    def concat(self, v, c, h, w):
        parts = [self.r.choice([u for u in self.values if u[2:] == (h, w)]) for _ in range(self.r.randint(1, 3))]
        self.add('Concat', [u[0] for u in parts], sum(u[1] for u in parts), h, w, axis=1)

    def shortcut(self, v, c, h, w):
        if h < 4 or w < 4:
            return
        y0, a, b = self.r.randint(0, 1), self.r.choice([0, 4, 8, 16]), self.r.choice([0, 3, 8, 16])
        y = self.add('Slice', [v, self.ints(y0, 0), self.ints(h, w), self.ints(2, 3), self.ints(2, 2)],
                     c, (h - y0 + 1) // 2, (w + 1) // 2)
        self.add('Pad', [y, self.ints(0, a, 0, 0, 0, b, 0, 0)], c + a + b, (h - y0 + 1) // 2, (w + 1) // 2)

    def pad(self, v, c, h, w):
        p = [self.r.randint(0, 2) for _ in range(4)]
        self.add('Pad', [v, self.ints(0, 0, p[0], p[1], 0, 0, p[2], p[3])], c, h + p[0] + p[2], w + p[1] + p[3])

    def squeeze_excite(self, v, c, h, w):
        y = self.add('GlobalAveragePool', [v], c, 1, 1)
        y = self.add('Sigmoid', [self.add('Conv', [y, self.noise(c, c, 1, 1)], c, 1, 1)], c, 1, 1)
        self.add('Mul', self.r.choice([[v, y], [y, v]]), c, h, w)

    def mobile(self, v, c, h, w):
        r, act = self.r, self.r.choice(['Relu', 'Silu', 'HardSwish', None])
        wide, k, s = r.choice([2, 16, 24, 40, 96]), r.choice([3, 3, 5, 7]), r.choice([1, 1, 2])

        def activate(y, *shape):
            if act == 'Silu':
                return self.add('Mul', [y, self.add('Sigmoid', [y], *shape)], *shape)
            if act == 'HardSwish':
                clipped = self.add('Clip', [self.add('Add', [y, self.const(np.float32(3))], *shape),
                                            self.const(np.float32(0)), self.const(np.float32(6))], *shape)
                return self.add('Mul', [y, self.add('Div', [clipped, self.const(np.float32(6))], *shape)], *shape)
            return self.add(act, [y], *shape) if act else y

        if c != wide or r.random() < .8:
            v = activate(self.add('Conv', [v, self.noise(wide, c, 1, 1), self.noise(wide, scale=.3)], wide, h, w), wide, h, w)
        ho, wo = (h - 1) // s + 1, (w - 1) // s + 1
        y = self.add('Conv', [v, self.noise(wide, 1, k, k)], wide, ho, wo, strides=[s, s], pads=[k // 2] * 4, group=wide)
        y = activate(y, wide, ho, wo)
        if r.random() < .2:
            self.squeeze_excite(y, wide, ho, wo)
            y = self.values[-1][0]
        if r.random() < .8:
            o = r.choice([8, 16, 24, 32])
            y = self.add('Conv', [y, self.noise(o, wide, 1, 1)], o, ho, wo)
            if self.same(o, ho, wo, y) and r.random() < .6:
                self.add('Add', [y, r.choice(self.same(o, ho, wo, y))], o, ho, wo)

    def split_concat(self, v, c, h, w):
        """As YOLO's C2f: parts of a tensor, what is computed from one, all together again."""
        a, b = self.r.choice([(16, 16), (32, 16), (16, 20), (8, 24), (48, 80)])
        y = self.add('Conv', [v, self.noise(a + b, c, 1, 1)], a + b, h, w)
        parts = [self.name(), self.name()]
        if self.r.random() < .6:
            self.nodes.append(helper.make_node('Split', [y, self.ints(a, b)], parts, axis=1))
        else:
            for name, at, end in ((parts[0], 0, a), (parts[1], a, a + b)):
                self.nodes.append(helper.make_node('Slice', [y, self.ints(at), self.ints(end), self.ints(1)], [name]))
        self.values += [(parts[0], a, h, w), (parts[1], b, h, w)]
        z = self.add('Conv', [parts[1], self.noise(16, b, 3, 3)], 16, h, w, pads=[1] * 4)
        order = parts + [z] if self.r.random() < .7 else self.r.sample(parts + [z], 3)
        self.add('Concat', order, a + b + 16, h, w, axis=1)
        if self.r.random() < .3:
            self.add('Concat', [self.values[-1][0], z], a + b + 32, h, w, axis=1)

    def plain(self, v, c, h, w):
        kind = self.r.choice(['transpose', 'reshape', 'softmax', 'mean', 'split', 'max'])
        if kind == 'transpose':
            self.add('Transpose', [v], c, w, h, perm=[0, 1, 3, 2])
        elif kind == 'reshape':
            self.add('Reshape', [v, self.ints(0, 0, h * w, 1)], c, h * w, 1)
        elif kind == 'softmax':
            self.add('Softmax', [v], c, h, w, axis=self.r.choice([1, 3]))
        elif kind == 'mean':
            self.add('ReduceMean', [v], c, 1, 1, axes=[2, 3], keepdims=1)
        elif kind == 'max':
            self.add('GlobalMaxPool', [v], c, 1, 1)
        elif c > 1:
            a, first, second = self.r.randint(1, c - 1), self.name(), self.name()
            self.nodes.append(helper.make_node('Split', [v, self.ints(a, c - a)], [first, second], axis=1))
            self.values += [(first, a, h, w), (second, c - a, h, w)]

    def model(self):
        """Bytes, or None if nothing was made."""
        made = self.values[1:]
        if not made:
            return None
        if getattr(self, 'strict', False):
            made = [(n, 0, 0, 0) for n in self.stored[:60]]
        chosen = {u[0]: u for u in [made[-1]] + (made if made[0][1] == 0 else self.r.sample(made, min(3, len(made))))}
        self.outputs = [Value(n, np.float32, u[1:]) for n, u in chosen.items()]
        self.inputs = [(Value('x', np.float32, self.values[0][1:]), self.g.standard_normal((2,) + self.values[0][1:]).astype(np.float32))]
        ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in chosen]
        x = helper.make_tensor_value_info('x', TensorProto.FLOAT, ['N'] + list(self.values[0][1:]))
        graph = helper.make_graph(self.nodes, 'random', [x], ports, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 14)], ir_version=8).SerializeToString()


KINDS = (['conv'] * 6 + ['binary', 'concat'] * 2 + ['depthwise', 'grouped', 'batchnorm', 'activation', 'activation', 'constant',
                                                    'pool', 'pool', 'shortcut', 'pad', 'squeeze_excite', 'plain',
                                                    'mobile', 'mobile', 'split_concat'])


LARGEST_STEP = .3                       # of a stored value: wide enough that nothing saturates


class QuantisedNetwork(Network):
    """Int8 as exporters write it: Q and DQ around convolutions, sums, pools, concats, a product at the end.

    Every other one is `strict`: all stored values are outputs, so that each is rounded where the file says so.
    Elsewhere the engine may round less often: a convolution's result goes into its residual sum as it is.
    """

    def __init__(self, seed):
        self.strict, self.stored = seed % 2 == 0, []
        super().__init__(seed, QUANTISED)
        v, c, h, w = self.values[-1]
        if self.r.random() < .5:
            y = self.add('Flatten', [self.add('GlobalAveragePool', [v], c, 1, 1)], c, 1, 1)
            weights = self.weight(self.g.standard_normal((c, 10)) * c ** -.5, 1)
            self.settle(self.add('MatMul', [self.pair(y), weights], 10, 1, 1), 10, 1, 1)

    def scale(self):
        return np.float32(self.r.uniform(.5, 1) * LARGEST_STEP)

    def pair(self, v, c=0, h=0, w=0):
        """v through uint8 or int8 and back."""
        t = self.r.choice([np.uint8, np.uint8, np.int8])
        zero = self.r.randint(100, 150) if t == np.uint8 else self.r.randint(-20, 20)
        args = [self.const(self.scale()), self.const(t(zero))]
        q, d = self.name(), self.name()
        self.nodes += [helper.make_node('QuantizeLinear', [v, *args], [q]), helper.make_node('DequantizeLinear', [q, *args], [d])]
        self.stored.append(d)
        return d

    def settle(self, v, c, h, w):
        self.values.append((self.pair(v), c, h, w))

    def weight(self, a, axis=0):
        scales = np.maximum(np.abs(a).max(tuple(i for i in range(a.ndim) if i != axis)), 1e-6) / 127
        shape = [-1 if i == axis else 1 for i in range(a.ndim)]
        q = np.clip(np.rint(a / scales.reshape(shape)), -127, 127).astype(np.int8)
        d = self.name()
        self.nodes.append(helper.make_node('DequantizeLinear', [self.const(q), self.const(scales.astype(np.float32)),
                                                                self.const(np.zeros(len(scales), np.int8))], [d], axis=axis))
        return d

    def qconv(self, v, c, h, w):
        r = self.r
        k, s, p = r.choice([(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (5, 1, 2), (3, 1, 0)])
        ho, wo = (h + 2 * p - k) // s + 1, (w + 2 * p - k) // s + 1
        groups = c if r.random() < .25 else 1
        o = c if groups > 1 else r.choice([8, 16, 24, 32, 64, 72])
        if ho < 1 or wo < 1:
            return
        weights = self.weight(self.g.standard_normal((o, c // groups, k, k)) * (c // groups * k * k) ** -.5)
        bias = [self.noise(o, scale=.3)] * r.randint(0, 1)
        y = self.add('Conv', [self.pair(v) if r.random() < .2 else v, weights] + bias, o, ho, wo, strides=[s, s], pads=[p] * 4, group=groups)
        if r.random() < .3 and self.same(o, ho, wo, y):
            y = self.add('Add', [self.pair(y), r.choice(self.same(o, ho, wo, y))], o, ho, wo)
        if r.random() < .6:
            y = self.add(r.choice(['Relu', 'Relu', 'Clip6', 'HardSwish']), [y], o, ho, wo)
        self.settle(y, o, ho, wo)

    def add(self, op, inputs, c, h, w, **attributes):
        if op == 'Clip6':
            return self.add('Clip', inputs + [self.const(np.float32(0)), self.const(np.float32(6))], c, h, w)
        y = super().add(op, inputs, c, h, w, **attributes)
        self.values.pop()               # only settled values go on
        return y

    def qadd(self, v, c, h, w):
        self.settle(self.add('Add', [v, self.r.choice(self.same(c, h, w))], c, h, w), c, h, w)

    def qpool(self, v, c, h, w):
        if h > 3 and w > 3:
            op = self.r.choice(['MaxPool', 'AveragePool'])
            self.settle(self.add(op, [v], c, h // 2, w // 2, kernel_shape=[2, 2], strides=[2, 2]), c, h // 2, w // 2)

    def qconcat(self, v, c, h, w):
        parts = [self.r.choice([u for u in self.values if u[2:] == (h, w)]) for _ in range(2)]
        self.settle(self.add('Concat', [u[0] for u in parts], sum(u[1] for u in parts), h, w, axis=1), sum(u[1] for u in parts), h, w)


QUANTISED = ['qconv'] * 5 + ['qadd', 'qpool', 'qconcat']
