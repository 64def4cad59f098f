# lane: unit
# timeout: 900
"""Random graphs against ONNX Runtime, on every instruction set: 20,000 of them in make check-full.

Two generators: networks of convolutions with a batch of 2 (what the blocked kernels take), and graphs of any
operators (t/lib/random_graphs.py).  A seed is a graph; a graph that fails is left behind as a file.
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
    from lib.random_networks import Network
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


def apart(expected, got):
    """None if they agree, else how they do not."""
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return '%s %s, not %s %s' % (got.dtype, got.shape, expected.dtype, expected.shape)
    if expected.dtype.kind != 'f':
        return None if (expected == got).all() else '%d of %d differ' % ((expected != got).sum(), got.size)
    if expected.size == 0:
        return None
    error = np.abs(expected.astype(np.float64) - got).max() / max(1e-3, np.abs(expected).max())
    return None if error < 1e-4 else 'differs by %g of the largest' % error


def check(model, inputs, expected, names, isa, batch, fed):
    """What is wrong, or None."""
    try:
        outputs = engine.run(model, inputs, isa, batch)
    except Refused as e:
        return 'refused: %s' % e
    except Died as e:
        return 'the engine died: %s' % e
    for name, e, y in zip(names, expected, outputs):
        fault = apart(e, y)
        if fault:
            return '%s %s' % (name, fault)
    return None


def runtime(model, fed, names=None):
    return onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider']).run(names, fed)


def available(isa):
    probe = Graph(1)
    try:
        engine.run(probe.model(), [x for _, x in probe.inputs], isa)
    except Refused as e:
        return 'instruction set' not in str(e)
    return True


isas = [i for i in ISAS if available(i)]
for kind, make in (('networks', Network), ('graphs', Graph)):
    wrong, compared, refused = [], collections.Counter(), 0
    count = graphs // 4 if kind == 'networks' else graphs - graphs // 4
    for seed in range(first, first + count):
        graph = make(seed)
        model = graph.model()
        if model is None:
            continue
        inputs = [x for _, x in graph.inputs]
        fed = {v.name: x for v, x in graph.inputs}
        try:
            expected = runtime(model, fed)
        except Exception:               # forms that ONNX Runtime does not take
            refused += 1
            continue
        # the best one always, the others in turn
        for isa in ('auto', isas[1 + seed % (len(isas) - 1)]):
            fault = check(model, inputs, expected, [v.name for v in graph.outputs], isa, graph.batch, fed)
            compared[isa] += 1
            if fault:
                wrong.append('%s %d on %s: %s' % (kind, seed, isa, fault))
                with open('%s/%s-%d.onnx' % (folder, kind, seed), 'wb') as f:
                    f.write(model)
    for fault in wrong[:20]:
        note(fault)
    for reason, n in collections.Counter(re.sub(r'.*refused: |"[^"]*"', '', w) for w in wrong if 'refused' in w).most_common(10):
        note('%d times: %s' % (n, reason))
    ok(not wrong, '%d random %s agree with ONNX Runtime (%s)' % (count, kind, ', '.join('%s %d' % c for c in sorted(compared.items()))))
    ok(refused <= .05 * count, 'ONNX Runtime takes all but %d of them' % refused)
done()
