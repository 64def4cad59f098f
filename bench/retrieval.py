"""What bfloat16 and int8 cost in retrieval: MedQuAD's questions look for their answers with MiniLM, without a server.

    bench/retrieval.py [--model FOLDER] [--questions 2000] [--answers 4000] [--precision float32,bfloat16,int8] [--isa auto]

Of --answers question-answer pairs, spread over the file, the first answer of each text is the corpus, cut at 256 tokens; every
second question or so searches all of it by the inner product.  Found is an answer of the same text.  Recall at 1 and 10, the mean
of 1 / rank, and how often the first ten are float32's first ten (in any order); the loss is against float32.  Both sides of a search
have the precision named; "int8 questions" look in float32's answers, as after a change of a model's precision.
"""
import argparse
import gzip
import json
import os
import pathlib
import subprocess

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = pathlib.Path(os.environ.get('MILLRACE_DATA', ROOT / '../shared/data'))
TOOL = ROOT / 'unit/bin/encode'


def pairs(n):
    with gzip.open(DATA / 'qa/medquad_12000.tsv.gz', 'rt', encoding='utf-8') as f:
        f.readline()
        rows = [line.rstrip('\n').split('\t')[2:4] for line in f]
    return [rows[int(i)] for i in np.linspace(0, len(rows) - 1, min(n, len(rows)))]


def embed(a, precision, texts):
    done = subprocess.run([TOOL, a.model, '--precision', precision, '--isa', a.isa, '--max', '256'], input=b''.join(t.encode() + b'\0' for t in texts),
                          stdout=subprocess.PIPE, check=True)
    head, _, body = done.stdout.partition(b'\n')
    return np.frombuffer(body, np.float32).reshape(-1, json.loads(head)['hidden'])


def search(questions, answers, right):
    """Rank of the right answer of each question, ties to its disadvantage, and its first ten."""
    score = questions @ answers.T
    mine = score[np.arange(len(right)), right]
    return (score >= mine[:, None]).sum(1), np.argsort(-score, axis=1)[:, :10]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--model', default=os.environ.get('MILLRACE_MINILM', os.path.expanduser('~/.cache/millrace/minilm')))
    p.add_argument('--questions', type=int, default=2000)
    p.add_argument('--answers', type=int, default=4000)
    p.add_argument('--precision', default='float32,bfloat16,int8')
    p.add_argument('--isa', default='auto')
    a = p.parse_args()
    subprocess.run(['make', '-s', 'unit/bin/encode'], cwd=ROOT, check=True)

    some = pairs(a.answers)
    number = {}
    right = np.array([number.setdefault(answer, len(number)) for _, answer in some])
    step = max(1, len(some) // a.questions)
    questions = [q for q, _ in some][::step]
    right = right[::step]
    print('%d questions, %d distinct answers' % (len(questions), len(number)))
    print('%-16s %9s %9s %9s %12s %14s' % ('', 'recall@1', 'recall@10', 'MRR', 'same ten', 'least cosine'))
    plain = None
    for precision in a.precision.split(','):
        vectors = embed(a, precision, questions), embed(a, precision, list(number))
        if plain is None:
            plain, plain_ten = vectors, search(*vectors, right)[1]
        sides = {precision: vectors}
        if plain is not vectors:
            sides[precision + ' questions'] = vectors[0], plain[1]
        for name, (q, d) in sides.items():
            rank, ten = search(q, d, right)
            same = np.mean([len(np.intersect1d(x, y)) for x, y in zip(ten, plain_ten)]) / 10
            least = min((x * y).sum(1).min() for x, y in zip((q, d), plain))
            print('%-16s %9.4f %9.4f %9.4f %12.4f %14.4f' % (name, (rank == 1).mean(), (rank <= 10).mean(), (1 / rank).mean(), same, least), flush=True)


if __name__ == '__main__':
    main()
