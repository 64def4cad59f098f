"""Encoders without a server: MiniLM against ONNX Runtime on the same tokens, one core, interleaved rounds.

    bench/text.py [--model FOLDER] [--rounds 3] [--sentences 2000] [--answers 500] [--precision float32,bfloat16,int8] [--sentence-transformers]

ONNX Runtime gets batches of 32, sorted by length and padded to the longest of each; ours (unit/bin/encode) the same batches
without padding.  Tokens are made before the clock starts.  CPU seconds, so that a loaded machine disturbs less, least of the
rounds; ratio: ONNX Runtime's / ours.  sentence-transformers gets the texts themselves; what our tokenizer takes for them
(bench/tokens.py) is a hundredth of ours.  One sentence at a time: the first 200 of SST-2's dev set.
FOLDER is all-MiniLM-L6-v2's (default: what `make models` fetched, or $MILLRACE_MINILM).
"""
import argparse
import gzip
import json
import os
import pathlib
import subprocess
import sys
import time

for v in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[v] = '1'
ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = pathlib.Path(os.environ.get('MILLRACE_DATA', ROOT / '../shared/data'))
WORK = pathlib.Path(os.environ.get('MILLRACE_TMP', ROOT / 'tmp')) / 'text'
TOOL = ROOT / 'unit/bin/encode'
CORE = max(os.sched_getaffinity(0))
BATCH, MOST = 32, 256


def texts(a):
    with open(DATA / 'sst2/train.tsv', encoding='utf-8') as f:
        f.readline()
        sentences = [line.rstrip('\n').split('\t')[1] for line, _ in zip(f, range(a.sentences))]
    with gzip.open(DATA / 'qa/medquad_12000.tsv.gz', 'rt', encoding='utf-8') as f:
        f.readline()
        answers = [line.rstrip('\n').split('\t')[3] for line, _ in zip(f, range(a.answers))]
    with open(DATA / 'sst2/dev.tsv', encoding='utf-8') as f:
        f.readline()
        alone = [line.rstrip('\n').split('\t')[1] for line, _ in zip(f, range(200))]
    return {'sentences': sentences, 'answers': answers, 'alone': alone}


def export(model, path):
    """Runs in a process of its own: torch is large."""
    import torch
    import transformers

    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = transformers.AutoModel.from_pretrained(model, attn_implementation='eager').eval()

        def forward(self, ids, mask, types):
            return self.net(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state

    x = torch.ones(2, 8, dtype=torch.int64)
    names = ['input_ids', 'attention_mask', 'token_type_ids']
    torch.onnx.export(Last(), (x, x, x * 0), path, input_names=names, output_names=['hidden'], opset_version=17, dynamo=False,
                      dynamic_axes={n: {0: 'batch', 1: 'tokens'} for n in names + ['hidden']})


def peer(path, ids_file):
    """ONNX Runtime, answering."""
    os.sched_setaffinity(0, {CORE})
    import numpy as np
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    net = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    with open(ids_file) as f:
        ids = [[int(x) for x in line.split()] for line in f]

    def embed(some):
        longest = max(map(len, some))
        x = np.zeros((len(some), longest), np.int64)
        mask = np.zeros_like(x)
        for i, s in enumerate(some):
            x[i, :len(s)] = s
            mask[i, :len(s)] = 1
        h = net.run(['hidden'], {'input_ids': x, 'attention_mask': mask, 'token_type_ids': np.zeros_like(x)})[0]
        e = (h * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        return (e / np.linalg.norm(e, axis=1, keepdims=True)).astype('f')

    by_length = sorted(ids, key=len)
    answer(ids, lambda some: embed([some]), lambda: [embed(by_length[i:i + BATCH]) for i in range(0, len(ids), BATCH)])


def sentence_transformers(model, texts_file):
    """The same with sentence-transformers, from texts."""
    os.sched_setaffinity(0, {CORE})
    import torch
    from sentence_transformers import SentenceTransformer
    torch.set_num_threads(1)
    net = SentenceTransformer(model, device='cpu')
    with open(texts_file) as f:
        some = json.load(f)
    answer(some, lambda text: net.encode([text], show_progress_bar=False),
           lambda: net.encode(some, batch_size=BATCH, show_progress_bar=False))


def answer(texts, one, every):
    """For each line on stdin a line, CPU seconds of all texts; 'alone' makes it median and 95th percentile of single ones."""
    import numpy as np
    one(texts[0])
    print('ready', flush=True)

    def seconds(f, *args):
        begin = time.process_time()
        f(*args)
        return time.process_time() - begin

    for line in sys.stdin:
        if line.startswith('alone'):
            print(*np.percentile([seconds(one, t) for t in texts], (50, 95)), flush=True)
        else:
            print(seconds(every), flush=True)


class Side:
    def __init__(self, *command):
        self.process = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        os.sched_setaffinity(self.process.pid, {CORE})

    def ask(self, what):
        self.process.stdin.write(what + '\n')
        self.process.stdin.flush()
        return [float(x) for x in self.process.stdout.readline().split()]

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model', default=os.environ.get('MILLRACE_MINILM', os.path.expanduser('~/.cache/millrace/minilm')))
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--sentences', type=int, default=2000)
    p.add_argument('--answers', type=int, default=500)
    p.add_argument('--precision', default='float32,bfloat16,int8')
    p.add_argument('--only', default='alone,sentences,answers')
    p.add_argument('--isa', default='auto')
    p.add_argument('--sentence-transformers', action='store_true')
    a = p.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    onnx = WORK / 'minilm.onnx'
    if not onnx.exists():
        subprocess.run([sys.executable, __file__, '--export', a.model, onnx], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(['make', '-s', 'unit/bin/encode'], cwd=ROOT, check=True)
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(os.path.join(a.model, 'tokenizer.json'))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST)
    print('%-10s %10s | %s' % ('', 'ORT', ' | '.join('%-18s' % x for x in a.precision.split(','))))
    for name, some in texts(a).items():
        if name not in a.only.split(','):
            continue
        ids = WORK / (name + '.ids')
        with open(ids, 'w') as f:
            for e in tokenizer.encode_batch(some):
                f.write(' '.join(map(str, e.ids)) + '\n')
        ours = {x: Side(TOOL, a.model, '--ids', '--time', ids, '--batch', BATCH, '--precision', x, '--isa', a.isa) for x in a.precision.split(',')}
        theirs = [Side(sys.executable, __file__, '--peer', onnx, ids)]
        if a.sentence_transformers:
            raw = WORK / (name + '.json')
            raw.write_text(json.dumps(some))
            theirs.append(Side(sys.executable, __file__, '--sentence-transformers', a.model, raw))
        for x in theirs:
            x.process.stdout.readline()
        what = 'alone' if name == 'alone' else 'all'
        rounds = []
        for _ in range(a.rounds):
            rounds.append([x.ask(what)[0] for x in (*theirs, *ours.values())])
        least = [min(x) for x in zip(*rounds)]
        other = least.pop(1) if a.sentence_transformers else None
        show = (lambda s: '%.3f ms' % (1e3 * s)) if name == 'alone' else (lambda s: '%.1f/s' % (len(some) / s))
        print('%-10s %10s | %s' % (name, show(least[0]), ' | '.join('%-10s × %.2f ' % (show(x), least[0] / x) for x in least[1:])), flush=True)
        if other:
            print('%-10s %10s | %s   sentence-transformers' % ('', show(other), ' | '.join('%-10s × %.2f ' % ('', other / x) for x in least[1:])), flush=True)
        for x in [*theirs, *ours.values()]:
            x.end()


if __name__ == '__main__':
    if sys.argv[1:2] == ['--export']:
        export(*sys.argv[2:])
    elif sys.argv[1:2] == ['--peer']:
        peer(*sys.argv[2:])
    elif sys.argv[1:2] == ['--sentence-transformers'] and len(sys.argv) == 4:
        sentence_transformers(*sys.argv[2:])
    else:
        main()
