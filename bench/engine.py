"""The engine, called from SQL, against ONNX Runtime and OpenVINO: one core, interleaved rounds, medians.

    bench/engine.py [--only name,...] [--isa avx2] [--rounds 9] [--sql-only]

Every engine has a process of its own, pinned to the same core, one thread; in each round each of them runs the same
network on the same input for about --slice seconds, one after the other.  Ours is the time of infer() in a PL/pgSQL
loop, conversions from and to real[] included; theirs that of run() in Python.  Ratio: peer's time / ours.
With --isa avx2 OpenVINO is held to AVX2 (ONEDNN_MAX_CPU_ISA, and hold()); ONNX Runtime cannot be.
Networks: real files of ../shared/data/models, and exports with random weights (t/lib/exports.py), made on the first run.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 't'))
sys.path.insert(0, os.path.join(ROOT, 't', 'lib'))
DATA = os.environ.get('MILLRACE_DATA', os.path.join(ROOT, '..', 'shared', 'data'))
WORK = os.path.join(os.environ.get('MILLRACE_TMP', os.path.join(ROOT, 'tmp')), 'engine')
CORE = max(os.sched_getaffinity(0))

# name, file, shape of the input, precision, peers
CASES = [
    ('ResNet-50 f32', 'resnet50', (1, 3, 224, 224), 'f32', ('ort', 'ov')),
    ('ResNet-50 bf16', 'resnet50', (1, 3, 224, 224), 'bf16', ('ov',)),
    ('ResNet-50 int8', 'resnet50.int8', (1, 3, 224, 224), 'f32', ('ort', 'ov')),
    ('MobileNetV2 f32', 'mobilenetv2_dequant_fp32', (1, 3, 224, 224), 'f32', ('ort', 'ov')),
    ('YOLOv8n 640 f32', 'yolov8n_dequant_fp32', (1, 3, 640, 640), 'f32', ('ort', 'ov')),
    ('CIFAR ResNet-56 f32', 'resnet56_cifar10', (1, 3, 32, 32), 'f32', ('ort', 'ov')),
    ('MiniLM 16 tokens f32', 'minilm_ids', (1, 16), 'f32', ('ort', 'ov')),
    ('MiniLM 32 x 16 tokens f32', 'minilm_ids', (32, 16), 'f32', ('ort', 'ov')),
]


def model_file(name):
    real = os.path.join(DATA, 'models', name + '.onnx')
    path = os.path.join(WORK, name + '.onnx')
    if os.path.exists(real):
        return real
    if not os.path.exists(path):
        os.makedirs(WORK, exist_ok=True)
        subprocess.run([sys.executable, __file__, '--make', name, path], check=True, stdout=subprocess.DEVNULL)
    return path


def make(name, path):
    """Runs in a process of its own: torch is large."""
    import numpy as np
    import exports
    if name in exports.MODELS:
        exports.MODELS[name](name, path)
    elif name.endswith('.int8'):
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Noise(CalibrationDataReader):
            left = 8

            def get_next(self):
                self.left -= 1
                return {'input': np.random.default_rng(self.left).standard_normal((1, 3, 224, 224)).astype('f')} if self.left >= 0 else None
        quant_pre_process(model_file(name[:-5]), path + '.pre')
        quantize_static(path + '.pre', path, Noise(), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


def input_of(name, shape):
    import numpy as np
    r = np.random.default_rng(0)
    return r.integers(1, 30000, shape) if name == 'minilm_ids' else r.random(shape, dtype=np.float32)


def hold(net):
    """Float32 products without an operator behind them go to MLAS, which uses AVX-512 whatever ONEDNN_MAX_CPU_ISA says
    (primitiveType gemm_mlas_f32).  A clamp that changes nothing makes them oneDNN's, held to AVX2."""
    from openvino import opset13
    constant = ('Constant', 'Convert')
    for node in net.get_ordered_ops():
        if node.get_type_name() != 'MatMul' or node.input_value(1).get_node().get_type_name() not in constant:
            continue
        out, readers = node.output(0), list(node.output(0).get_target_inputs())
        if len(readers) == 1 and readers[0].get_node().get_type_name() == 'Add':
            add = readers[0].get_node()
            if any(v.get_node().get_type_name() in constant for v in add.input_values()):
                out = add.output(0)
        readers = list(out.get_target_inputs())
        clamp = opset13.clamp(out, -1e30, 1e30)
        for reader in readers:
            reader.replace_source_output(clamp.output(0))


def peer(engine, name, shape, precision):
    """A process that runs one engine: reads seconds, answers with the least and the median milliseconds of a call."""
    os.sched_setaffinity(0, {CORE})
    path, x = model_file(name), input_of(name, shape)
    if engine == 'ort':
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        net = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
        feed = {net.get_inputs()[0].name: x}
        call = lambda: net.run(None, feed)
    else:
        import openvino
        net = openvino.Core().read_model(path)
        net.reshape(list(shape))
        if os.environ.get('ONEDNN_MAX_CPU_ISA') == 'AVX2':
            hold(net)
        compiled = openvino.Core().compile_model(net, 'CPU', {
            'INFERENCE_NUM_THREADS': 1, 'INFERENCE_PRECISION_HINT': precision, 'PERFORMANCE_HINT': 'LATENCY', 'NUM_STREAMS': 1,
            'ENABLE_CPU_PINNING': False})
        request = compiled.create_infer_request()
        call = lambda: request.infer({0: x}, share_inputs=True)
    call()
    print('ready', flush=True)
    for line in sys.stdin:
        end, times = time.perf_counter() + float(line), []
        while len(times) < 3 or time.perf_counter() < end:
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
        print(json.dumps(statistics.median(times)), flush=True)


class Peer:
    def __init__(self, engine, name, shape, precision, isa):
        env = dict(os.environ, OMP_NUM_THREADS='1')
        if isa == 'avx2':
            env['ONEDNN_MAX_CPU_ISA'] = 'AVX2'
        self.process = subprocess.Popen([sys.executable, __file__, '--peer', engine, name, json.dumps(shape), precision], env=env,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.runs = self.process.stdout.readline() != ''        # OpenVINO held to AVX2 refuses bfloat16

    def time(self, seconds):
        self.process.stdin.write('%g\n' % seconds)
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


TIMER = """
CREATE FUNCTION pg_temp.timed(model text, x real[], seconds float8) RETURNS float8 LANGUAGE plpgsql AS $$
DECLARE
	times float8[]; began timestamptz; stop timestamptz := clock_timestamp() + make_interval(secs => seconds); n int := 0;
BEGIN
	WHILE n < 3 OR clock_timestamp() < stop LOOP
		began := clock_timestamp();
		PERFORM infer(model, x);
		times[n] := extract(epoch FROM clock_timestamp() - began) * 1000;
		n := n + 1;
	END LOOP;
	RETURN (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY t) FROM unnest(times) t);
END $$"""


class Ours:
    def __init__(self, dsn, core, name, shape, precision, isa):
        import psycopg
        self.db = psycopg.connect(dsn, autocommit=True)
        os.sched_setaffinity(self.db.info.backend_pid, {core})
        run = self.db.execute
        if isa:
            run("SET millrace.isa = '%s'" % isa)
        self.model = '%s_%s' % (name, precision)
        with open(model_file(name), 'rb') as f:
            content = f.read()
        spec = {'precision': 'bfloat16'} if precision == 'bf16' else {}
        self.compiled = 0
        if run('SELECT 1 FROM millrace.models WHERE name = %s', (self.model,)).fetchone() is None:
            started = time.perf_counter()
            run('SELECT millrace.import_model(%s, %s, %s)', (self.model, content, json.dumps(spec)))
            self.compiled = time.perf_counter() - started      # and stored
        self.file = run('SELECT millrace.prewarm(%s)', (self.model,)).fetchone()[0]
        run(TIMER)
        self.x = input_of(name, shape).astype('f').ravel().tolist()
        run('CREATE TEMP TABLE input AS SELECT %s::real[] AS x', (self.x,))

    def time(self, seconds):
        return self.db.execute('SELECT pg_temp.timed(%s, (SELECT x FROM input), %s)', (self.model, seconds)).fetchone()[0]

    def close(self):
        self.db.close()


def two_sessions(dsn, name, shape):
    """Calls a second of two sessions on two cores, against one."""
    import threading
    cores = sorted(os.sched_getaffinity(0))[-2:]
    if len(cores) < 2:
        return None
    sessions = [Ours(dsn, core, name, shape, 'f32', None) for core in cores]
    times = [0, 0]

    def work(i):
        times[i] = sessions[i].time(2)
    threads = [threading.Thread(target=work, args=(i,)) for i in (0, 1)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    alone = sessions[0].time(1)
    [s.close() for s in sessions]
    return alone / times[0] + alone / times[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only', default='')
    parser.add_argument('--isa')
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--slice', type=float, default=.4)
    args = parser.parse_args()
    from lib.cluster import Cluster, find_pg_config
    pg = os.environ.get('PG_CONFIG') or find_pg_config()
    with Cluster(pg, os.path.join(WORK, 'cluster'), conf={'shared_preload_libraries': 'millrace'}) as cluster:
        cluster.psql('CREATE EXTENSION millrace')
        dsn = cluster.dsn()
        print('%-28s %9s %9s %9s %8s %8s   %s' % ('one core, batch 1' + (', ' + args.isa if args.isa else ''), 'ours ms', 'ORT ms', 'OpenVINO',
                                                 'ORT/ours', 'OV/ours', 'file, work memory, import'))
        for title, name, shape, precision, engines in CASES:
            if args.only and not any(o.lower() in title.lower() for o in args.only.split(',')):
                continue
            try:
                ours = Ours(dsn, CORE, name, shape, precision, args.isa)
                ours.time(.05)
            except Exception as e:
                print('%-28s %s' % (title, str(e).splitlines()[0]), flush=True)
                continue
            peers = {e: Peer(e, name, shape, precision, args.isa) for e in engines}
            peers = {e: p for e, p in peers.items() if p.runs}
            rounds = [(ours.time(args.slice), {e: p.time(args.slice) for e, p in peers.items()}) for _ in range(args.rounds)]
            mine = statistics.median(r[0] for r in rounds)
            theirs = {e: statistics.median(r[1][e] for r in rounds) for e in peers}
            ratio = {e: statistics.median(r[1][e] / r[0] for r in rounds) for e in peers}
            work = ours.db.execute('SELECT max(work_bytes) FROM millrace.stat_models WHERE name = %s', (ours.model,)).fetchone()[0]
            cell = lambda d, e, f: f % d[e] if e in d else '-'
            print('%-28s %9.3f %9s %9s %8s %8s   %.1f MB, %.1f MB, %.2f s' % (
                title, mine, cell(theirs, 'ort', '%.3f'), cell(theirs, 'ov', '%.3f'), cell(ratio, 'ort', '%.2f'), cell(ratio, 'ov', '%.2f'),
                ours.file / 1e6, work / 1e6, ours.compiled), flush=True)
            [p.close() for p in peers.values()]
            ours.close()
        if not args.only and not args.isa:
            print('two sessions at once, ResNet-50: %.2f times one' % two_sessions(dsn, 'resnet50', (1, 3, 224, 224)))


if __name__ == '__main__':
    if sys.argv[1:2] == ['--peer']:
        peer(sys.argv[2], sys.argv[3], tuple(json.loads(sys.argv[4])), sys.argv[5])
    elif sys.argv[1:2] == ['--make']:
        make(sys.argv[2], sys.argv[3])
    else:
        main()
