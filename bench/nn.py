"""Inference, side by side with ONNX Runtime on one thread: interleaved rounds, least time of each, ratios.

    bench/nn.py [--rounds 7]        needs unit/bin/nn_run (make tools) and ../shared/data
"""
import argparse
import os
import subprocess
import sys
import time

for name in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'):
    os.environ[name] = '1'
import numpy as np
import onnxruntime

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.environ.get('MILLRACE_DATA', os.path.join(ROOT, '..', 'shared', 'data'))
TOOL = os.path.join(ROOT, 'unit', 'bin', 'nn_run')
MODELS = [(os.path.join(DATA, 'models', n + '.onnx'), shape) for n, shape in (
    ('resnet20_cifar10', (1, 3, 32, 32)), ('resnet56_cifar10', (1, 3, 32, 32)), ('mobilenetv2_dequant_fp32', (1, 3, 224, 224)),
    ('SqueezeNet_fp16', (1, 3, 224, 224)))] + [(os.path.join(ROOT, 'models', 'cifar10', 'backbone.onnx'), (1, 3, 32, 32))]

parser = argparse.ArgumentParser()
parser.add_argument('--rounds', type=int, default=7)
args = parser.parse_args()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 3
folder = os.environ.get('MILLRACE_TMP', '/tmp')
print('%-28s %10s %10s %8s' % ('network, batch 1, 1 thread', 'ours ms', 'ORT ms', 'ORT/ours'))
for path, shape in MODELS:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    x.tofile(folder + '/nn_bench.in')
    net = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    spec = net.get_inputs()[0]
    feed = {spec.name: x.astype(np.float16) if 'float16' in spec.type else x}
    ours, theirs = [], []
    for _ in range(args.rounds):
        ours.append(float(subprocess.run([TOOL, path, '--in', folder + '/nn_bench.in', '--bench', '60'], capture_output=True,
                                         text=True, check=True).stdout))
        times = []
        for _ in range(60):
            start = time.perf_counter()
            net.run(None, feed)
            times.append(1e3 * (time.perf_counter() - start))
        theirs.append(min(times))
    ratios = sorted(b / a for a, b in zip(ours, theirs))
    print('%-28s %10.3f %10.3f %8.2f' % (os.path.basename(path), min(ours), min(theirs), ratios[len(ratios) // 2]), flush=True)
sys.exit(0)
