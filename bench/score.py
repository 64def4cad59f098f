"""BERTScore in SQL against the bert-score package: the same pairs, MiniLM's last layer, one thread each, interleaved rounds.

    bench/score.py [--rounds 3] [--model FOLDER]

Connects as libpq does (PGHOST, PGDATABASE …) to a database with the extension and the model minilm (tools/models).  Pairs: the 150
short ones and all 200 of shared/data/qa/bertscore_200.tsv.  CPU seconds, the server's process against Python's, so that a loaded
machine disturbs less, least of the rounds; the package's model is loaded and warm.  FOLDER is all-MiniLM-L6-v2's.
"""
import argparse
import os
import pathlib
import time

for v in ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ[v] = '1'
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')
import psycopg
import torch
from bert_score import BERTScorer

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = pathlib.Path(os.environ.get('MILLRACE_DATA', ROOT / '../shared/data'))
MODEL = os.environ.get('MILLRACE_MINILM', os.path.expanduser('~/.cache/millrace/minilm'))


def cpu(pid):
    return int(open('/proc/%d/schedstat' % pid).read().split()[0]) / 1e9


def ours(c, candidates, references, model):
    pid = c.info.backend_pid
    start = cpu(pid)
    rows = c.execute('SELECT f1 FROM millrace.bert_scores(%s::text[], %s::text[], jsonb_build_object(\'model\', %s::text)) ORDER BY ordinal',
                     (candidates, references, model), binary=True).fetchall()
    return cpu(pid) - start, [r[0] for r in rows]


def theirs(scorer, candidates, references):
    start = time.process_time()
    f1 = scorer.score(candidates, references)[2]
    return time.process_time() - start, f1.tolist()


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--rounds', type=int, default=3)
    p.add_argument('--model', default=MODEL)
    a = p.parse_args()
    torch.set_num_threads(1)
    rows = [line.split('\t') for line in open(DATA / 'qa/bertscore_200.tsv', encoding='utf-8').read().rstrip('\n').split('\n')[1:]]
    scorer = BERTScorer(model_type=a.model, num_layers=6, device='cpu', batch_size=64)
    print('| pairs | precision | ours pairs/s | package pairs/s | ratio | greatest difference of F1 |\n|---|---|---|---|---|---|')
    with psycopg.connect(autocommit=True) as c:
        if not c.execute("SELECT 1 FROM millrace.models WHERE name = 'minilm_bf16'").fetchone():
            c.execute("SELECT millrace.import_model('minilm_bf16', millrace.model_bytes('minilm'), '{\"precision\": \"bfloat16\"}')")
        for n in (150, 200):
            candidates, references = [r[0] for r in rows[:n]], [r[1] for r in rows[:n]]
            models = ('minilm', 'minilm_bf16')
            for m in models:
                ours(c, candidates[:9], references[:9], m)
            theirs(scorer, candidates[:9], references[:9])
            rounds = [([ours(c, candidates, references, m) for m in models], theirs(scorer, candidates, references)) for _ in range(a.rounds)]
            package = min(r[1][0] for r in rounds)
            for i, m in enumerate(models):
                mine = min(r[0][i][0] for r in rounds)
                off = max(abs(x - y) for x, y in zip(rounds[0][0][i][1], rounds[0][1][1]))
                print('| %d | %s | %.1f | %.1f | %.2f | %.1e |' % (n, ('float32', 'bfloat16')[i], n / mine, n / package, package / mine, off), flush=True)


main()
