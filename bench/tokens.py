"""Tokenizers without a server, against the tokenizers package: texts/s of one thread, from the same file.

    bench/tokens.py [kind …] [--rounds 5] [--sentences 5000] [--answers 500]

Kinds: minilm (what `make models` fetched, or $MILLRACE_MINILM), and those that t/test_text_tokenizers.py trains: bert (WordPiece),
roberta (byte-level BPE), xlmr (Unigram).  Ours gives ids and places; the package encode_batch(), which does too, and
encode_batch_fast(), which leaves the places out.  Same texts, rounds interleaved, least of the rounds, CPU seconds, so that a
loaded machine disturbs less; ratio: the package's better one / ours.  Then one text of 1 MB and one of 10: µs a kB.
"""
import argparse
import os
import pathlib
import subprocess
import sys
import time

os.environ['TOKENIZERS_PARALLELISM'] = 'false'
os.environ['RAYON_NUM_THREADS'] = '1'
ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / 't'))
TOOL = ROOT / 'unit/bin/tokenize'


def ours(path, texts):
    """µs a text."""
    out = subprocess.run([TOOL, path, '--bench', '1'], input=b''.join(t.encode() + b'\0' for t in texts), stdout=subprocess.PIPE, check=True).stdout
    return float(out)


def theirs(call, texts):
    begin = time.process_time()
    call(texts)
    return (time.process_time() - begin) * 1e6 / len(texts)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('kinds', nargs='*', default=['minilm', 'bert', 'roberta', 'xlmr'])
    p.add_argument('--rounds', type=int, default=5)
    p.add_argument('--sentences', type=int, default=5000)
    p.add_argument('--answers', type=int, default=500)
    a = p.parse_args()
    sys.argv[1:] = a.kinds                      # what the test's tokenizers() goes by
    import test_text_tokenizers as test
    os.makedirs(test.FOLDER, exist_ok=True)
    subprocess.run(['make', '-s', 'unit/bin/tokenize'], cwd=ROOT, check=True)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    sentences, answers = test.real_texts()
    long = '\n'.join(answers)
    sets = [('%d SST-2 sentences' % a.sentences, sentences[:a.sentences], 1), ('%d MedQuAD answers' % a.answers, answers[2:3 * a.answers:3], 1),
            ('1 MB', [long[:10 ** 6]], 1e3), ('10 MB', [long[:10 ** 7]], 1e4)]
    print('%-8s %-20s %10s %10s %10s %8s   µs a text, a kB' % ('', '', 'ours', 'batch', 'fast', 'ratio'))
    for kind, tokenizer, path in test.tokenizers(test.training_texts(sentences, answers)):
        for name, texts, parts in sets:
            calls = [lambda x: ours(path, x), lambda x: theirs(tokenizer.encode_batch, x), lambda x: theirs(tokenizer.encode_batch_fast, x)]
            rounds = [[call(texts) for call in calls] for _ in range(a.rounds)]
            least = [min(r[i] for r in rounds) / parts for i in range(3)]
            print('%-8s %-20s %10.2f %10.2f %10.2f %8.2f' % (kind, name, *least, min(least[1:]) / least[0]), flush=True)


if __name__ == '__main__':
    main()
