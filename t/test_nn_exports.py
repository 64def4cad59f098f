# timeout: 3000
"""What exporters write: graphs of torch.onnx (both exporters), optimum and tf2onnx against ONNX Runtime.

`make check` fills the skeletons of t/exports with random weights; under check-full the networks are built and exported
here, each exporter in a Python environment of its own under tmp/, and a line says which could not be installed.
Names on the command line: only those.
"""
import glob
import os
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import done, note, ok, skip_all

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.path.join(ROOT, 'unit', 'bin', 'nn_run')
FULL = bool(os.environ.get('MILLRACE_FULL'))
try:
    import numpy as np
    import onnxruntime
    from lib import exports
except ImportError as e:
    skip_all(str(e))

folder = os.environ.get('MILLRACE_TMP', 'tmp/test_nn_exports')
os.makedirs(folder, exist_ok=True)
# exporter's environment: packages, networks
ENVIRONMENTS = {
    'torch': ('torch torchvision timm transformers onnx onnxscript ultralytics',
              'resnet50 resnet50_dynamo efficientnet_b0 efficientnet_b0_dynamo convnext_tiny convnext_tiny_dynamo vit_tiny vit_tiny_dynamo '
              'yolov5n yolov8n yolov11n minilm minilm_dynamo distilbert distilbert_dynamo mpnet mpnet_dynamo bert bert_dynamo '
              'mobilenetv3 shufflenet densenet googlenet regnet'),
    'tf': ('tensorflow-cpu<2.16 tf2onnx numpy<2 onnx<1.17 protobuf<5', 'tf_resnet50 tf_mobilenetv2 tf_efficientnet_b0'),
    'optimum': ('optimum[onnx]<2 transformers<4.52 onnx onnxruntime torch<2.8', 'optimum_minilm optimum_distilbert optimum_mpnet optimum_vit'),
}


def make_all():
    """Paths of the exports that could be made; existing ones are kept."""
    for env, (packages, names) in ENVIRONMENTS.items():
        python = os.environ.get('MILLRACE_PYTHON_' + env.upper()) or os.path.join(folder, 'venv-' + env, 'bin', 'python')
        if not os.path.exists(python):
            subprocess.run([sys.executable, '-m', 'venv', os.path.dirname(os.path.dirname(python))], check=True)
            if subprocess.run([python, '-m', 'pip', 'install', '-q', *packages.split()]).returncode:
                note('skipped: the packages of %s could not be installed' % env)
                continue
        for name in names.split():
            if sys.argv[1:] and name not in sys.argv[1:]:
                continue
            made = subprocess.run([python, os.path.join(ROOT, 't', 'lib', 'exports.py'), folder, name], capture_output=True, text=True)
            path = os.path.join(folder, name + '.onnx')
            if ok(made.returncode == 0, '%s is exported' % name):
                yield name, path
            else:
                note(made.stderr[-400:])


def filled():
    for skeleton in sorted(glob.glob(os.path.join(ROOT, 't', 'exports', '*.onnx.gz'))):
        name = os.path.basename(skeleton)[:-8]
        path = os.path.join(folder, name + '.onnx')
        exports.fill(skeleton, path)
        yield name, path
        os.remove(path)


def inputs_of(net):
    r, given = np.random.default_rng(0), {}
    for i in net.get_inputs():
        sizes = [1, 3, 224, 224] if len(i.shape) == 4 else [1, 19]
        shape = [d if isinstance(d, int) else sizes[k] for k, d in enumerate(i.shape)]
        if i.type == 'tensor(float)':
            given[i.name] = r.random(shape, dtype=np.float32)
        elif 'mask' in i.name:
            given[i.name] = np.ones(shape, np.int64)
            given[i.name][:, -3:] = 0
        else:
            given[i.name] = r.integers(0, 2 if 'type' in i.name else 1000, shape)
    return given


def compare(name, path, isa):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    net = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    given = inputs_of(net)
    expected = net.run(None, given)
    command = [TOOL, path, '--isa', isa, '--out', folder + '/out']
    for k, (i, a) in enumerate(given.items()):
        a.tofile('%s/in.%d' % (folder, k))
        command += ['--shape', 'x'.join(map(str, a.shape)), '--in', '%s/in.%d' % (folder, k)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if not ok(ran.returncode == 0, '%s on %s is run' % (name, isa)):
        return note(ran.stderr[:300])
    worst = 0
    for k, e in enumerate(expected):
        got = np.fromfile('%s/out.%d' % (folder, k), e.dtype)
        worst = max(worst, np.abs(got - e.ravel()).max() / np.abs(e).max() if got.size == e.size else np.inf)
    vary = min(e.std() / np.abs(e).max() for e in expected)
    ok(worst <= 1e-4 and vary > 1e-5, '%s on %s: worst relative error %.1e' % (name, isa, worst))


for name, path in make_all() if FULL else filled():
    for isa in ['auto'] + (['avx2', 'portable'] if FULL and 'bert' not in name.split('_') else []):
        compare(name, path, isa)
done()
