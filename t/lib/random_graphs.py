"""Random ONNX graphs that are valid and well behaved, one per seed.

A value knows whether both engines must agree on its bits (`exact`): inputs, constants, and what only moves,
compares or counts those.  What jumps (Floor, ArgMax, comparisons, quantisation) is applied to such values only,
so that a difference in the last bit of a float never becomes a different answer.
"""
import random

import numpy as np
from onnx import TensorProto, helper, numpy_helper

F, I, B = np.float32, np.int64, np.bool_


class Value:
    def __init__(self, name, dtype, shape, exact=False):
        self.name, self.dtype, self.shape, self.exact = name, np.dtype(dtype), tuple(shape), exact
        self.size = int(np.prod(shape))

    @property
    def rank(self):
        return len(self.shape)


class Graph:
    """A graph of any operators under construction; fixed shapes."""

    MOST = 20000                        # elements of a value
    batch = 1

    def __init__(self, seed, kinds=None):
        self.r, self.g = random.Random(seed), np.random.default_rng(seed)
        self.opset = self.r.choice([11, 13, 14, 17, 18, 20, 21])
        self.nodes, self.weights, self.inputs, self.values, self.count = [], [], [], [], 0
        for _ in range(self.r.randint(1, 2)):
            self.input()
        kinds = kinds or KINDS
        for _ in range(self.r.randint(2, 14)):
            kind = self.r.choice(kinds)
            recent = [v for v in self.values[-6:] if v.rank] or self.values[:1]
            v = self.r.choice(recent if self.r.random() < .8 else [v for v in self.values if v.rank])
            getattr(self, kind)(v)

    def input(self):
        r = self.r
        rank = r.choice([1, 2, 2, 3, 3, 4, 4, 4])
        shape = [r.choice([1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 20, 33]) for _ in range(rank)]
        if rank > 2:
            shape[0] = r.choice([1, 1, 1, 2, 3])
        v = Value('x%d' % len(self.inputs), F, shape, True)
        self.inputs.append((v, self.g.standard_normal(shape).astype(F)))
        self.values.append(v)

    # ---- building ----

    def name(self):
        self.count += 1
        return 'v%d' % self.count

    def const(self, a):
        name = self.name()
        self.weights.append(numpy_helper.from_array(np.asarray(a), name))
        return Value(name, np.asarray(a).dtype, np.asarray(a).shape, True)

    def ints(self, *a):
        return self.const(np.array(a, I))

    def noise(self, *shape, scale=1.):
        return self.const((self.g.standard_normal(shape) * scale).astype(F))

    def positive(self, *shape):
        return self.const(self.g.uniform(.5, 1.5, shape).astype(F))

    def add(self, op, inputs, shape, dtype=F, exact=False, keep=True, **attributes):
        """A node of one output."""
        return self.multi(op, inputs, [(shape, dtype, exact)], keep, **attributes)[0]

    def multi(self, op, inputs, outputs, keep=True, **attributes):
        made = [Value(self.name(), d, s, e) for s, d, e in outputs]
        self.nodes.append(helper.make_node(op, [v.name if v else '' for v in inputs], [v.name for v in made], name='n' + made[0].name,
                                           **{k: v for k, v in attributes.items() if v is not None}))
        if keep:
            self.values += [v for v in made if v.size <= self.MOST]
        return made

    def with_list(self, op, v, key, values, shape, since, more=(), exact=None, **attributes):
        """Axes and the like: an attribute before opset `since`, an input then."""
        inputs = [v, *more]
        if values is not None:
            if self.opset < since:
                attributes[key] = list(values)
            else:
                inputs.append(self.ints(*values))
        return self.add(op, inputs, shape, v.dtype, v.exact if exact is None else exact, **attributes)

    def floats(self, v):
        """v, or some float value if v is none."""
        if v.dtype == F:
            return v
        fit = [u for u in self.values if u.dtype == F and u.rank]
        return self.r.choice(fit)

    def exact_float(self):
        return self.r.choice([u for u in self.values if u.dtype == F and u.exact and u.rank])

    def broadcast(self, v):
        """A shape that broadcasts against v's without growing it."""
        shape = [d if self.r.random() < .6 else 1 for d in v.shape]
        return tuple(shape[self.r.randint(0, v.rank):])

    def other(self, v):
        """An operand for v: another value of its shape, or a constant that broadcasts."""
        same = [u for u in self.values if u.shape == v.shape and u.dtype == v.dtype]
        return self.r.choice(same) if same and self.r.random() < .5 else self.noise(*self.broadcast(v))

    def axis(self, v, low=0):
        a = self.r.randrange(low, v.rank)
        return a, self.r.choice([a, a - v.rank])

    # ---- elementwise ----

    def unary(self, v):
        v = self.floats(v)
        op = self.r.choice(['Abs', 'Neg', 'Relu', 'Sigmoid', 'Tanh', 'Erf', 'Softplus', 'Softsign', 'Selu', 'Elu', 'LeakyRelu', 'Sin', 'Cos',
                            'Atan', 'HardSigmoid', 'ThresholdedRelu', 'Asinh', 'Celu', 'HardSwish', 'Mish', 'Gelu', 'Identity'])
        if (op, True) in ((o, self.opset < s) for o, s in (('Celu', 12), ('HardSwish', 14), ('Mish', 18), ('Gelu', 20))):
            op = 'Relu'
        exact = v.exact and op in ('Abs', 'Neg', 'Relu', 'Identity')
        attributes = {}
        if op in ('Elu', 'LeakyRelu', 'Celu') and self.r.random() < .5:
            attributes['alpha'] = self.r.choice([.1, .5, 1.5])
        if op == 'ThresholdedRelu':
            v = self.exact_float()
            attributes['alpha'] = .5
        if op == 'Gelu':
            attributes['approximate'] = self.r.choice(['none', 'tanh'])
        self.add(op, [v], v.shape, F, exact, **attributes)

    def positive_unary(self, v):
        v = self.floats(v)
        a = self.add('Abs', [v], v.shape, keep=False)
        a = self.add('Add', [a, self.const(F(1.25))], v.shape, keep=False)
        self.add(self.r.choice(['Log', 'Sqrt', 'Reciprocal', 'Acosh']), [a], v.shape)

    def bounded_unary(self, v):
        v = self.floats(v)
        t = self.add('Tanh', [v], v.shape, keep=False)
        t = self.add('Mul', [t, self.const(F(.8))], v.shape, keep=False)
        self.add(self.r.choice(['Asin', 'Acos', 'Atanh', 'Sinh', 'Cosh', 'Exp', 'Tan']), [t], v.shape)

    def jump(self, v):
        v = self.exact_float()
        self.add(self.r.choice(['Floor', 'Ceil', 'Sign', 'Round']), [v], v.shape, F, True)

    def clip(self, v):
        v = self.floats(v)
        low, high = (self.const(F(x)) if self.r.random() < .8 else None for x in (-.5, .75))
        self.add('Clip', [v, low, high] if high else [v, low] if low else [v], v.shape, F, v.exact)

    def binary(self, v):
        v = self.floats(v)
        o = self.other(v)
        op = self.r.choice(['Add', 'Add', 'Sub', 'Mul', 'Mul', 'Max', 'Min'])
        pair = [v, o] if self.r.random() < .6 else [o, v]
        self.add(op, pair, v.shape, F, v.exact and o.exact and op in ('Max', 'Min'))

    def outer(self, v):
        """Broadcasting that grows: (a, 1) against (b)."""
        v = self.floats(v)
        if v.rank < 4 and v.size * 5 <= self.MOST:
            self.add(self.r.choice(['Add', 'Mul', 'Sub']), [v, self.noise(5, *([1] * v.rank))], (5,) + v.shape)

    def division(self, v):
        v = self.floats(v)
        self.add('Div', [v, self.positive(*self.broadcast(v))], v.shape)

    def power(self, v):
        v = self.floats(v)
        self.add('Pow', [v, self.const(F(self.r.choice([1, 2, 2, 3])))], v.shape)

    def many(self, v):
        v = self.floats(v)
        parts = [v] + [self.other(v) for _ in range(self.r.randint(1, 3))]
        op = self.r.choice(['Sum', 'Mean', 'Max', 'Min'])
        self.add(op, parts, v.shape, F, all(p.exact for p in parts) and op in ('Max', 'Min'))

    def prelu(self, v):
        v = self.floats(v)
        self.add('PRelu', [v, self.noise(*self.broadcast(v))], v.shape)

    def compare(self, v):
        a = self.exact_float()
        b = self.noise(*self.broadcast(a))
        c = self.add(self.r.choice(['Less', 'Greater', 'Equal'] + ['LessOrEqual', 'GreaterOrEqual'] * (self.opset >= 12)), [a, b], a.shape, B, True)
        if self.r.random() < .4:
            self.add('Not', [c], a.shape, B, True)
        elif self.r.random() < .6:
            d = self.add('Greater', [a, self.const(F(0))], a.shape, B, True)
            c = self.add(self.r.choice(['And', 'Or', 'Xor']), [c, d], a.shape, B, True)
        self.add('Where', [c, a, self.other(a)], a.shape)
        self.add('Cast', [c], a.shape, F, True, to=TensorProto.FLOAT)

    def integers(self, v):
        a = self.exact_float()
        i = self.add('Cast', [a], a.shape, I, True, keep=False, to=TensorProto.INT64)
        k = self.const(self.g.integers(1, 7, self.broadcast(a)))
        i = self.add(self.r.choice(['Add', 'Sub', 'Mul', 'Div', 'Mod', 'Max', 'Min'][:5 if self.opset < 12 else 7]), [i, k], a.shape, I, True)
        self.add('Cast', [i], a.shape, F, True, to=TensorProto.FLOAT)

    # ---- matrices and reductions ----

    def matmul(self, v):
        v = self.floats(v)
        if v.rank < 2:
            return
        n = self.r.choice([1, 3, 8, 16, 33, 48])
        k = v.shape[-1]
        if v.size // k * n > self.MOST:
            return
        w = self.noise(*(v.shape[:-2] if self.r.random() < .2 else ()), k, n, scale=k ** -.5)
        y = self.add('MatMul', [v, w], v.shape[:-1] + (n,), keep=False)
        if self.r.random() < .7:
            y = self.add('Add', self.r.choice([[y, b], [b, y]]) if (b := self.noise(n)) else [], y.shape, keep=False)
        if self.r.random() < .4:
            y = self.add(self.r.choice(['Relu', 'Tanh', 'Sigmoid']), [y], y.shape, keep=False)
        self.values.append(y)

    def matmul_values(self, v):
        v = self.floats(v)
        if v.rank >= 2 and v.size // v.shape[-1] * v.shape[-2] <= self.MOST:
            perm = list(range(v.rank - 2)) + [v.rank - 1, v.rank - 2]
            t = self.add('Transpose', [v], v.shape[:-2] + (v.shape[-1], v.shape[-2]), F, v.exact, perm=perm)
            y = self.add('MatMul', [v, t], v.shape[:-1] + (v.shape[-2],), keep=False)
            self.add('Mul', [y, self.const(F(1 / max(1, v.shape[-1])))], y.shape)

    def gemm(self, v):
        v = self.floats(v)
        if v.rank != 2:
            return
        m, k = v.shape
        ta, tb = self.r.randint(0, 1), self.r.randint(0, 1)
        if ta:
            m, k = k, m
        n = self.r.choice([1, 5, 16, 40])
        w = self.noise(*((n, k) if tb else (k, n)), scale=k ** -.5)
        bias = self.noise(*self.r.choice([(n,), (1, n), (m, 1), (1,), (m, n)]))
        self.add('Gemm', [v, w] + [bias] * self.r.randint(0, 1), (m, n), transA=ta, transB=tb, alpha=self.r.choice([None, .5]), beta=self.r.choice([None, 2.]))

    def reduce(self, v):
        v = self.floats(v)
        op = self.r.choice(['ReduceSum', 'ReduceMean', 'ReduceMax', 'ReduceMin', 'ReduceL1', 'ReduceL2', 'ReduceSumSquare', 'ReduceLogSumExp'])
        axes = sorted(self.r.sample(range(v.rank), self.r.randint(1, v.rank)))
        keep = self.r.randint(0, 1)
        shape = [1 if i in axes else d for i, d in enumerate(v.shape) if keep or i not in axes]
        given = [a if self.r.random() < .7 else a - v.rank for a in axes]
        self.with_list(op, v, 'axes', given, shape, 13 if op == 'ReduceSum' else 18, exact=v.exact and op in ('ReduceMax', 'ReduceMin'), keepdims=keep)

    def arg(self, v):
        v = self.exact_float()
        a, given = self.axis(v)
        keep = self.r.randint(0, 1)
        shape = [1 if i == a else d for i, d in enumerate(v.shape) if keep or i != a]
        self.add(self.r.choice(['ArgMax', 'ArgMin']), [v], shape, I, True, axis=given, keepdims=keep)

    def softmax(self, v):
        v = self.floats(v)
        a, given = self.axis(v)
        self.add(self.r.choice(['Softmax', 'Softmax', 'LogSoftmax']), [v], v.shape, axis=given)

    def cumsum(self, v):
        v = self.floats(v)
        a, given = self.axis(v)
        self.add('CumSum', [v, self.const(np.array(given, I))], v.shape, exclusive=self.r.randint(0, 1), reverse=self.r.randint(0, 1))

    def topk(self, v):
        v = self.exact_float()
        a, given = self.axis(v)
        k = self.r.randint(1, v.shape[a])
        shape = v.shape[:a] + (k,) + v.shape[a + 1:]
        self.multi('TopK', [v, self.ints(k)], [(shape, F, True), (shape, I, True)], axis=given, largest=self.r.randint(0, 1))

    # ---- moving ----

    def transpose(self, v):
        perm = self.r.sample(range(v.rank), v.rank)
        self.add('Transpose', [v], [v.shape[p] for p in perm], v.dtype, v.exact, perm=perm if self.r.random() < .9 or perm != list(range(v.rank))[::-1] else None)

    def reshape(self, v):
        rest, shape = v.size, []
        while len(shape) < 3 and rest > 1 and self.r.random() < .8:
            d = self.r.choice([d for d in range(1, min(rest, 40) + 1) if rest % d == 0])
            shape.append(d)
            rest //= d
        shape.append(rest)
        given = list(shape)
        if self.r.random() < .4:
            given[self.r.randrange(len(given))] = -1
        elif v.shape[0] == shape[0]:
            given[0] = 0
        self.add('Reshape', [v, self.ints(*given)], shape, v.dtype, v.exact)

    def flatten(self, v):
        a = self.r.randint(0, v.rank)
        self.add('Flatten', [v], (int(np.prod(v.shape[:a])), int(np.prod(v.shape[a:]))), v.dtype, v.exact, axis=a)

    def squeeze(self, v):
        if v.rank < 5 and self.r.random() < .5:
            a = self.r.randint(0, v.rank)
            self.with_list('Unsqueeze', v, 'axes', [a], v.shape[:a] + (1,) + v.shape[a:], 13)
        elif 1 in v.shape and v.rank > 1:
            a = v.shape.index(1)
            self.with_list('Squeeze', v, 'axes', [a], v.shape[:a] + v.shape[a + 1:], 13)

    def expand(self, v):
        shape = tuple(self.r.choice([2, 3, 5]) if d == 1 else d for d in v.shape)
        if np.prod(shape) <= self.MOST:
            self.add('Expand', [v, self.ints(*shape)], shape, v.dtype, v.exact)

    def tile(self, v):
        times = [self.r.choice([1, 1, 2, 3]) for _ in v.shape]
        if v.size * np.prod(times) <= self.MOST:
            self.add('Tile', [v, self.ints(*times)], [d * t for d, t in zip(v.shape, times)], v.dtype, v.exact)

    def slice(self, v):
        a, given = self.axis(v)
        d = v.shape[a]
        step = self.r.choice([1, 1, 2, 3, -1, -2])
        s, e = sorted((self.r.randint(0, d), self.r.randint(0, d)))
        if step < 0:
            s, e = e, s
        n = len(range(d)[s:e:step])
        if n > 0:
            end = e if not (step > 0 and e == d and self.r.random() < .3) else 2 ** 62
            self.add('Slice', [v, self.ints(s), self.ints(end), self.ints(given), self.ints(step)], v.shape[:a] + (n,) + v.shape[a + 1:], v.dtype, v.exact)

    def concat(self, v):
        a, given = self.axis(v)
        fit = [u for u in self.values if u.dtype == v.dtype and u.rank == v.rank and
               all(i == a or p == q for i, (p, q) in enumerate(zip(u.shape, v.shape)))]
        parts = [self.r.choice(fit) for _ in range(self.r.randint(1, 3))]
        total = sum(p.shape[a] for p in parts)
        if v.size // v.shape[a] * total <= self.MOST:
            self.add('Concat', parts, v.shape[:a] + (total,) + v.shape[a + 1:], v.dtype, all(p.exact for p in parts), axis=given)

    def split(self, v):
        a, given = self.axis(v)
        d = v.shape[a]
        if d < 2:
            return
        k = self.r.randint(1, d - 1)
        outputs = [(v.shape[:a] + (n,) + v.shape[a + 1:], v.dtype, v.exact) for n in (k, d - k)]
        if self.opset < 13:
            self.multi('Split', [v], outputs, axis=given, split=[k, d - k])
        else:
            self.multi('Split', [v, self.ints(k, d - k)], outputs, axis=given)

    def pad(self, v):
        v = self.floats(v)
        mode = self.r.choice(['constant', 'constant', 'reflect', 'edge'])
        pads = [self.r.choice([0, 0, 1, 2]) if d > 2 or mode == 'constant' else 0 for _ in range(2) for d in v.shape]
        shape = [d + p + q for d, p, q in zip(v.shape, pads, pads[v.rank:])]
        if np.prod(shape) <= self.MOST:
            value = [self.const(F(.5))] if mode == 'constant' and self.r.random() < .5 else []
            self.add('Pad', [v, self.ints(*pads)] + value, shape, F, v.exact, mode=mode)

    def gather(self, v):
        a, given = self.axis(v)
        shape = self.r.choice([(), (3,), (2, 2)])
        i = self.const(self.g.integers(-v.shape[a], v.shape[a], shape))
        out = v.shape[:a] + shape + v.shape[a + 1:]
        if np.prod(out) <= self.MOST and len(out) < 6:
            self.add('Gather', [v, i], out, v.dtype, v.exact, axis=given)

    def gather_elements(self, v):
        a, given = self.axis(v)
        shape = tuple(self.r.randint(1, d) for d in v.shape)
        i = self.const(self.g.integers(-v.shape[a], v.shape[a], shape))
        self.add('GatherElements', [v, i], shape, v.dtype, v.exact, axis=given)

    def gather_nd(self, v):
        n = self.r.randint(1, v.rank)
        i = self.const(np.stack([self.g.integers(0, d, 4) for d in v.shape[:n]], -1))
        if 4 * np.prod(v.shape[n:]) <= self.MOST:
            self.add('GatherND', [v, i], (4,) + v.shape[n:], v.dtype, v.exact)

    def scatter(self, v):
        v = self.floats(v)
        if self.r.random() < .5:
            a, given = self.axis(v)
            d = v.shape[a]
            n = self.r.randint(1, d)
            shape = tuple(n if i == a else 1 if i else 1 for i in range(v.rank))
            i = self.const(self.g.permutation(d)[:n].astype(I).reshape(shape))
            self.add('ScatterElements', [v, i, self.noise(*shape)], v.shape, F, v.exact, axis=given)
        else:
            n = self.r.randint(1, min(3, v.shape[0]))
            i = self.const(self.g.permutation(v.shape[0])[:n].astype(I).reshape(n, 1))
            self.add('ScatterND', [v, i, self.noise(n, *v.shape[1:])], v.shape, F, v.exact)

    def depth_space(self, v):
        v = self.floats(v)
        if v.rank != 4:
            return
        n, c, h, w = v.shape
        if c % 4 == 0 and self.r.random() < .5:
            self.add('DepthToSpace', [v], (n, c // 4, h * 2, w * 2), F, v.exact, blocksize=2, mode=self.r.choice(['DCR', 'CRD']))
        elif h % 2 == 0 and w % 2 == 0:
            self.add('SpaceToDepth', [v], (n, c * 4, h // 2, w // 2), F, v.exact, blocksize=2)

    def one_hot(self, v):
        a = self.exact_float()
        if a.rank < 4 and a.size * 4 <= self.MOST:
            i = self.add('Cast', [a], a.shape, I, True, keep=False, to=TensorProto.INT64)
            at = self.r.randint(0, a.rank)
            self.add('OneHot', [i, self.const(I(4)), self.const(np.array([-1, 2], F))], a.shape[:at] + (4,) + a.shape[at:], F, True, axis=at)

    def trilu(self, v):
        v = self.floats(v)
        if v.rank >= 2 and self.opset >= 14:
            self.add('Trilu', [v] + [self.const(I(self.r.randint(-2, 2)))] * self.r.randint(0, 1), v.shape, F, v.exact, upper=self.r.randint(0, 1))

    # ---- images ----

    def image(self, v):
        """v as an image, (n, c, h, w) or (n, c, w): some value that is one, else a reshaped one."""
        v = self.floats(v)
        if v.rank in (3, 4):
            return v
        h = next((d for d in (4, 3, 5, 7, 2) if v.size % d == 0), 1)
        return self.add('Reshape', [v, self.ints(1, 1, h, -1)], (1, 1, h, v.size // h), F, v.exact)

    def window(self, v, most=3):
        """Kernel, strides, dilations, pads and the output's spatial shape, or None."""
        n = v.rank - 2
        k = [self.r.randint(1, most) for _ in range(n)]
        s = [self.r.choice([1, 1, 2]) for _ in range(n)]
        d = [self.r.choice([1, 1, 1, 2]) for _ in range(n)]
        # with gaps between its cells a window could lie beside the image: no pads then
        p = [self.r.randint(0, (k[i % n] - 1)) if max(d) == 1 else 0 for i in range(2 * n)]
        out = [(v.shape[2 + i] + p[i] + p[i + n] - (k[i] - 1) * d[i] - 1) // s[i] + 1 for i in range(n)]
        return (k, s, d, p, out) if min(out) > 0 and all((k[i] - 1) * d[i] < v.shape[2 + i] + p[i] + p[i + n] for i in range(n)) else None

    def conv(self, v):
        v = self.image(v)
        w = self.window(v, 4)
        if not w:
            return
        k, s, d, p, out = w
        n, c = v.shape[:2]
        groups = self.r.choice([1, 1, 1, c] + [q for q in (2, 4) if c % q == 0])
        o = groups * self.r.choice([1, 2, 3]) if groups > 1 else self.r.choice([1, 8, 16, 24, 33])
        if n * o * np.prod(out) > self.MOST:
            return
        weights = self.noise(o, c // groups, *k, scale=(c // groups * np.prod(k)) ** -.5)
        y = self.add('Conv', [v, weights] + [self.noise(o)] * self.r.randint(0, 1), (n, o, *out), keep=False, strides=s, dilations=d, pads=p,
                     group=groups)
        if self.r.random() < .4:
            y = self.add('BatchNormalization', [y, self.positive(o), self.noise(o), self.noise(o), self.positive(o)], y.shape, keep=False)
        if self.r.random() < .5:
            act = self.r.choice(['Relu', 'Sigmoid', 'LeakyRelu', 'HardSigmoid'])
            y = self.add(act, [y], y.shape, keep=False)
        self.values.append(y)

    def conv_transpose(self, v):
        v = self.image(v)
        n, c = v.shape[:2]
        spatial = v.rank - 2
        k = [self.r.randint(1, 3) for _ in range(spatial)]
        s = [self.r.choice([1, 2]) for _ in range(spatial)]
        out = [(v.shape[2 + i] - 1) * s[i] + k[i] for i in range(spatial)]
        o = self.r.choice([1, 3, 8])
        if n * o * np.prod(out) <= self.MOST:
            self.add('ConvTranspose', [v, self.noise(c, o, *k, scale=(c * np.prod(k)) ** -.5)] + [self.noise(o)] * self.r.randint(0, 1),
                     (n, o, *out), strides=s)

    def pool(self, v):
        v = self.image(v)
        w = self.window(v)
        if not w:
            return
        k, s, d, p, out = w
        if self.r.random() < .5:
            self.add('MaxPool', [v], (*v.shape[:2], *out), F, v.exact, kernel_shape=k, strides=s, dilations=d, pads=p)
        else:
            out = [(v.shape[2 + i] + p[i] + p[i + len(k)] - k[i]) // s[i] + 1 for i in range(len(k))]
            self.add('AveragePool', [v], (*v.shape[:2], *out), kernel_shape=k, strides=s, pads=p, count_include_pad=self.r.randint(0, 1))

    def global_pool(self, v):
        v = self.image(v)
        op = self.r.choice(['GlobalAveragePool', 'GlobalMaxPool'])
        self.add(op, [v], (*v.shape[:2], *([1] * (v.rank - 2))), F, v.exact and op == 'GlobalMaxPool')

    def squeeze_excite(self, v):
        v = self.image(v)
        c = v.shape[1]
        y = self.add('GlobalAveragePool', [v], (*v.shape[:2], *([1] * (v.rank - 2))), keep=False)
        y = self.add('Conv', [y, self.noise(c, c, *([1] * (v.rank - 2)), scale=c ** -.5)], y.shape, keep=False)
        y = self.add('Sigmoid', [y], y.shape, keep=False)
        self.add('Mul', self.r.choice([[v, y], [y, v]]), v.shape)

    def batchnorm(self, v):
        v = self.image(v)
        c = v.shape[1]
        self.add('BatchNormalization', [v, self.positive(c), self.noise(c), self.noise(c), self.positive(c)], v.shape, epsilon=self.r.choice([None, 1e-3]))

    def instancenorm(self, v):
        v = self.image(v)
        if np.prod(v.shape[2:]) > 3:
            self.add('InstanceNormalization', [v, self.positive(v.shape[1]), self.noise(v.shape[1])], v.shape, epsilon=.01)

    def lrn(self, v):
        v = self.image(v)
        if v.rank == 4:
            self.add('LRN', [v], v.shape, size=self.r.choice([1, 3, 5]), alpha=.1)

    def resize(self, v):
        v = self.image(v)
        if v.rank != 4 or v.size * 4 > self.MOST:
            return
        mode = self.r.choice(['nearest', 'linear'])
        f = [self.r.choice([1, 2]), self.r.choice([1, 2])]
        coordinates = self.r.choice(['half_pixel', 'asymmetric', 'align_corners'])
        shape = (*v.shape[:2], v.shape[2] * f[0], v.shape[3] * f[1])
        scales = self.const(np.array([1, 1, *f], F))
        nearest = self.r.choice(['floor', 'round_prefer_floor']) if mode == 'nearest' else None
        roi = self.const(np.zeros(0, F)) if self.opset < 13 else None
        self.add('Resize', [v, roi, scales], shape, F, v.exact and mode == 'nearest', mode=mode, coordinate_transformation_mode=coordinates,
                 nearest_mode=nearest)

    # ---- sequences, sums of products ----

    def recurrent(self, v):
        v = self.floats(v)
        if v.rank != 3 or v.shape[0] > 12:
            return
        t, n, c = v.shape
        op, gates = self.r.choice([('RNN', 1), ('GRU', 3), ('LSTM', 4)])
        h, both = self.r.choice([1, 4, 9]), self.r.randint(1, 2)
        inputs = [v, self.noise(both, gates * h, c, scale=c ** -.5), self.noise(both, gates * h, h, scale=h ** -.5)]
        inputs += [self.noise(both, 2 * gates * h)] * self.r.randint(0, 1)
        outputs = [((t, both, n, h), F, False), ((both, n, h), F, False)] + [((both, n, h), F, False)] * (op == 'LSTM')
        self.multi(op, inputs, outputs, hidden_size=h, direction=['forward', 'bidirectional'][both - 1] if both == 2 or self.r.random() < .7 else 'reverse',
                   linear_before_reset=self.r.randint(0, 1) if op == 'GRU' else None)

    def einsum(self, v):
        v = self.floats(v)
        if self.opset < 12:
            return
        if v.rank == 2:
            n = self.r.choice([1, 3, 6])
            w = self.noise(v.shape[1], n, scale=v.shape[1] ** -.5)
            form, shape = self.r.choice([('ij,jk->ik', (v.shape[0], n)), ('ij,jk->ki', (n, v.shape[0])), ('ij,jk->k', (n,))])
            self.add('Einsum', [v, w], shape, equation=form)
        elif v.rank == 3:
            form, shape = self.r.choice([('bij->bji', (v.shape[0], v.shape[2], v.shape[1])), ('...ij->...i', v.shape[:2]), ('bij->ij', v.shape[1:])])
            self.add('Einsum', [v], shape, equation=form)

    def integer_product(self, v):
        """Dynamic quantisation, as exporters write it: the sums are exact."""
        v = self.exact_float()
        if v.rank < 2:
            return
        n, k = self.r.choice([1, 5, 16]), v.shape[-1]
        one = ((), F, True)
        q, scale, zero = self.multi('DynamicQuantizeLinear', [v], [(v.shape, np.uint8, True), one, ((), np.uint8, True)], keep=False)
        w = self.const(self.g.integers(-127, 128, (k, n)).astype(np.int8))
        y = self.add('MatMulInteger', [q, w, zero, self.const(np.int8(0))], v.shape[:-1] + (n,), np.int32, True, keep=False)
        y = self.add('Cast', [y], y.shape, F, True, keep=False, to=TensorProto.FLOAT)
        factor = self.add('Mul', [scale, self.const(F(.01))], (), F, keep=False)
        self.add('Mul', [y, factor], y.shape)

    def rare(self, v):
        """Operators of one line."""
        v = self.floats(v)
        a, given = self.axis(v)
        op = self.r.choice(['LpNormalization', 'Hardmax', 'Shrink', 'MeanVarianceNormalization', 'IsNaN', 'ReverseSequence', 'Shape'])
        if op == 'LpNormalization':
            self.add(op, [v], v.shape, axis=given, p=self.r.randint(1, 2))
        elif op == 'Hardmax':
            v = self.exact_float()
            a, given = self.axis(v)
            self.add(op, [v], v.shape, F, True, axis=given)
        elif op == 'Shrink':
            v = self.exact_float()
            self.add(op, [v], v.shape, lambd=.5, bias=.25)
        elif op == 'IsNaN':
            self.add(op, [v], v.shape, B, True)
        elif op == 'ReverseSequence' and v.rank >= 2:
            lengths = self.const(self.g.integers(1, v.shape[0] + 1, v.shape[1]))
            self.add(op, [v, lengths], v.shape, F, v.exact, time_axis=0, batch_axis=1)
        elif op == 'MeanVarianceNormalization':
            v = self.inputs[0][0]           # without variance ONNX Runtime gives NaN
            if v.rank == 4 and v.shape[2] * v.shape[3] > 3:
                self.add(op, [v], v.shape)
        elif op == 'Shape':
            self.add(op, [v], (v.rank,), I, True)

    # ---- what exporters write ----

    def layernorm(self, v):
        v = self.floats(v)
        c = v.shape[-1]
        if c < 4:
            return
        if self.opset >= 17 and self.r.random() < .5:
            self.add('LayerNormalization', [v, self.positive(c)] + [self.noise(c)] * self.r.randint(0, 1), v.shape, epsilon=.01)
            return
        mean = self.with_list('ReduceMean', v, 'axes', [-1], v.shape[:-1] + (1,), 18)
        d = self.add('Sub', [v, mean], v.shape, keep=False)
        square = self.add('Pow', [d, self.const(F(2))], v.shape, keep=False)
        var = self.with_list('ReduceMean', square, 'axes', [-1], v.shape[:-1] + (1,), 18)
        root = self.add('Sqrt', [self.add('Add', [var, self.const(F(.01))], var.shape, keep=False)], var.shape, keep=False)
        y = self.add('Div', [d, root], v.shape, keep=False)
        y = self.add('Mul', [y, self.positive(c)], v.shape, keep=False)
        self.add('Add', [y, self.noise(c)], v.shape)

    def gelu(self, v):
        v = self.floats(v)
        e = self.add('Erf', [self.add('Div', [v, self.const(F(2 ** .5))], v.shape, keep=False)], v.shape, keep=False)
        y = self.add('Mul', [v, self.add('Add', [e, self.const(F(1))], v.shape, keep=False)], v.shape, keep=False)
        self.add('Mul', [y, self.const(F(.5))], v.shape)

    def silu(self, v):
        v = self.floats(v)
        s = self.add(self.r.choice(['Sigmoid', 'HardSigmoid']), [v], v.shape, keep=False)
        self.add('Mul', self.r.choice([[v, s], [s, v]]), v.shape)

    def attention(self, v):
        v = self.floats(v)
        if v.rank != 3 or v.shape[1] > 20:
            return
        n, t, c = v.shape
        heads, e = self.r.choice([1, 2, 4]), self.r.choice([4, 8])
        qkv = []
        for which in range(3):
            y = self.add('MatMul', [v, self.noise(c, heads * e, scale=c ** -.5)], (n, t, heads * e), keep=False)
            y = self.add('Add', [y, self.noise(heads * e)], y.shape, keep=False)
            y = self.add('Reshape', [y, self.ints(0, 0, heads, e)], (n, t, heads, e), keep=False)
            perm = [0, 2, 3, 1] if which == 1 else [0, 2, 1, 3]
            qkv.append(self.add('Transpose', [y], [y.shape[p] for p in perm], keep=False, perm=perm))
        s = self.add('MatMul', qkv[:2], (n, heads, t, t), keep=False)
        s = self.add(self.r.choice(['Div', 'Mul']), [s, self.const(F(1.5))], s.shape, keep=False)
        if self.r.random() < .4:
            s = self.add('Add', [s, self.noise(1, 1, 1, t)], s.shape, keep=False)
        s = self.add('Softmax', [s], s.shape, keep=False, axis=-1 if self.opset >= 13 else 3)
        y = self.add('MatMul', [s, qkv[2]], (n, heads, t, e), keep=False)
        y = self.add('Transpose', [y], (n, t, heads, e), keep=False, perm=[0, 2, 1, 3])
        self.add('Reshape', [y, self.ints(0, 0, heads * e)], (n, t, heads * e))

    def quantise(self, v):
        v = self.exact_float()
        t = self.r.choice([np.uint8, np.int8])
        if v.rank > 1 and self.opset >= 13 and self.r.random() < .4:
            a, given = self.axis(v)
            scale = self.const(self.g.uniform(.01, .05, v.shape[a]).astype(F))
            zero = self.const(self.g.integers(-5 if t == np.int8 else 100, 6 if t == np.int8 else 156, v.shape[a]).astype(t))
            attributes = {'axis': given}
        else:
            scale, zero, attributes = self.const(F(.03)), self.const(t(3 if t == np.int8 else 128)), {}
        q = self.add('QuantizeLinear', [v, scale, zero], v.shape, t, True, keep=False, **attributes)
        self.add('DequantizeLinear', [q, scale, zero], v.shape, F, True, **attributes)

    # ---- the end ----

    def model(self):
        """Bytes, or None if nothing was made; outputs: all ends, and some values on the way."""
        read = {name for n in self.nodes for name in n.input}
        made = [v for v in self.values if v.name.startswith('v')]
        ends = [v for v in made if v.name not in read]
        if not made:
            return None
        chosen = {v.name: v for v in ends + self.r.sample(made, min(2, len(made)))}
        self.outputs = list(chosen.values())[:8]
        port = lambda v: helper.make_tensor_value_info(v.name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        graph = helper.make_graph(self.nodes, 'random', [port(v) for v, _ in self.inputs], [port(v) for v in self.outputs], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid('', self.opset)], ir_version=8).SerializeToString()


# the more often a word stands here, the more often the operator
KINDS = ('unary unary unary positive_unary bounded_unary jump clip binary binary binary outer division power many prelu compare integers '
         'matmul matmul matmul_values gemm reduce reduce arg softmax cumsum topk transpose transpose reshape reshape flatten squeeze expand '
         'tile slice slice concat concat split pad gather gather_elements gather_nd scatter depth_space one_hot trilu '
         'conv conv conv conv_transpose pool pool global_pool squeeze_excite batchnorm instancenorm lrn resize resize '
         'layernorm gelu silu attention quantise recurrent einsum integer_product rare rare').split()
