# timeout: 1800
"""Random graphs against ONNX Runtime, on every instruction set: 20,000 of them in make check-full.

Three generators: networks of convolutions with a batch of 2 (what the blocked kernels take), the same in int8
(a value on the edge of two steps may fall to either side), and graphs of any operators (t/lib/random_*.py).
A seed is a graph; a graph that fails is left behind as a file.
GRAPHS=5000 FIRST=100000 t/test_nn_graphs.py runs other ones.
"""
import collections
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

try:
    import numpy as np
    import onnxruntime
    from lib.engine import Died, Engine, Refused
    from lib.random_graphs import Graph
    from lib.random_networks import LARGEST_STEP, Network, QuantisedNetwork
except ImportError as e:
    skip_all(str(e))

folder = os.environ.get('MILLRACE_TMP', 'tmp/test_nn_graphs')
os.makedirs(folder, exist_ok=True)
full = os.environ.get('MILLRACE_FULL') == '1'
graphs = int(os.environ.get('GRAPHS', '20000' if full else '600'))
first = int(os.environ.get('FIRST', '0'))
ISAS = ['auto', 'portable', 'avx2', 'avx512', 'avx512_vnni', 'avx512_bf16', 'amx']
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.log_severity_level = 4
# its optimiser folds a Pad of zeros into a MaxPool, which pads with -infinity
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
engine = Engine()


def runtime(model, fed):
    return onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider']).run(None, fed)


def shaken(model, fed, expected):
    """How much the outputs move with the last bits of the inputs: sums that cancel do, however right."""
    g = np.random.default_rng(1)
    moved = [runtime(model, {k: x * (1 + g.uniform(-1, 1, x.shape).astype(x.dtype) * 2 ** -20) for k, x in fed.items()}) for _ in range(2)]
    return [max(np.abs(e.astype(np.float64) - m[i]).max() for m in moved) if e.dtype.kind == 'f' and e.size else 0 for i, e in enumerate(expected)]


def apart(expected, got, slack=0, steps=''):
    """None if they agree, else how they do not; steps: elements of int8 networks may be a step off."""
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return '%s %s, not %s %s' % (got.dtype, got.shape, expected.dtype, expected.shape)
    if expected.dtype.kind != 'f':
        return None if (expected == got).all() else '%d of %d differ' % ((expected != got).sum(), got.size)
    if expected.size == 0:
        return None
    off = np.abs(expected.astype(np.float64) - got)
    error = off.max()
    if steps == 'strict' and (off.mean() < .05 * LARGEST_STEP or ((off > 1e-3).sum() <= 4 and error < 4 * LARGEST_STEP)):
        return None
    if steps == 'loose' and off.mean() < 2 * LARGEST_STEP:
        return None
    return None if error < 1e-4 * max(1e-2, np.abs(expected).max()) + slack else 'differs by %g, the largest is %g' % (error, np.abs(expected).max())


def check(graph, model, fed, expected, isa):
    """What is wrong, or None."""
    try:
        outputs = engine.run(model, list(fed.values()), isa, graph.batch)
    except Refused as e:
        return 'refused: %s' % e
    except Died as e:
        return 'the engine died: %s' % e
    slack = None
    steps = ('strict' if graph.strict else 'loose') if isinstance(graph, QuantisedNetwork) else ''
    for i, (v, e, y) in enumerate(zip(graph.outputs, expected, outputs)):
        if apart(e, y, 0, steps):
            slack = slack or shaken(model, fed, expected)
            fault = apart(e, y, 8 * slack[i], steps)
            if fault:
                return '%s %s' % (v.name, fault)
    return None


def available(isa):
    probe = Graph(1)
    try:
        engine.run(probe.model(), [x for _, x in probe.inputs], isa)
    except Refused as e:
        return 'instruction set' not in str(e)
    return True


isas = [i for i in ISAS if available(i)]
for kind, make, part in (('networks', Network, .2), ('int8 networks', QuantisedNetwork, .1), ('graphs', Graph, .7)):
    wrong, compared, refused = [], collections.Counter(), 0
    count = int(graphs * part)
    for seed in range(first, first + count):
        graph = make(seed)
        model = graph.model()
        if model is None:
            continue
        fed = {v.name: x for v, x in graph.inputs}
        try:
            expected = runtime(model, fed)
        except Exception:               # forms that ONNX Runtime does not take
            refused += 1
            continue
        # the best one always, the others in turn
        for isa in ('auto', isas[1 + seed % (len(isas) - 1)]):
            fault = check(graph, model, fed, expected, isa)
            compared[isa] += 1
            if fault:
                wrong.append('%s %d on %s: %s' % (kind, seed, isa, fault))
                with open('%s/%s-%d.onnx' % (folder, kind.replace(' ', '-'), seed), 'wb') as f:
                    f.write(model)
    for fault in wrong[:20]:
        note(fault)
    for reason, n in collections.Counter(re.sub(r'.*refused: |"[^"]*"', '', w) for w in wrong if 'refused' in w).most_common(10):
        note('%d times: %s' % (n, reason))
    ok(not wrong, '%d random %s agree with ONNX Runtime (%s)' % (count, kind, ', '.join('%s %d' % c for c in sorted(compared.items()))))
    ok(refused <= .05 * count, 'ONNX Runtime takes all but %d of them' % refused)
done()
