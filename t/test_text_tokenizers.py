# timeout: 1200
"""Token numbers against the tokenizers package: real texts, every character, random Unicode of every plane, per kind of tokenizer.

The tokenizers are trained here, on the real texts, with the parts that BERT, RoBERTa and XLM-R use; and MiniLM's own, where
it can be had (tools/models), from both of its files.  Needs unit/bin/tokenize.

  t/test_text_tokenizers.py [kind]        MILLRACE_FULL=1: all texts (200,000 and every character), else a share of them
"""
import gzip
import itertools
import os
import random
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import minilm, tap

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.environ.get('TOOL', os.path.join(ROOT, 'unit', 'bin', 'tokenize'))
FULL = os.environ.get('MILLRACE_FULL') == '1'
FOLDER = os.path.join(os.environ.get('MILLRACE_TMP') or os.path.join(ROOT, 'tmp', 'text_tokenizers'))
try:
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
except ImportError as e:
    tap.skip_all(str(e))
CHUNK = 20000  # texts at a time: the package's encodings are large
SPECIAL = ['<s>', '<pad>', '</s>', '<unk>', '<mask>']


def real_texts():
    sst, medquad = tap.data('sst2/train.tsv'), tap.data('qa/medquad_12000.tsv.gz')
    if not sst or not medquad:
        tap.skip_all('needs the real data: sst2, qa')
    texts = [line.split('\t', 1)[1].rstrip('\n') for line in open(sst, encoding='utf8')]
    answers = [cell for line in gzip.open(medquad, 'rt', encoding='utf8') for cell in line.rstrip('\n').split('\t')[1:]]
    return texts, answers


def bert(texts):
    t = Tokenizer(models.WordPiece(unk_token='[UNK]', max_input_chars_per_word=100))
    t.normalizer, t.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
    t.train_from_iterator(texts, trainers.WordPieceTrainer(vocab_size=8000, special_tokens=special, show_progress=False))
    t.post_processor = processors.TemplateProcessing(single='[CLS] $A [SEP]', special_tokens=[('[CLS]', 2), ('[SEP]', 3)])
    return t


def roberta(texts, space=False):
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=8000, special_tokens=SPECIAL, show_progress=False,
                                                     initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.post_processor = processors.RobertaProcessing(('</s>', 2), ('<s>', 0), add_prefix_space=space)
    t.add_special_tokens([AddedToken('<mask>', lstrip=True, normalized=False)])
    return t


def xlmr(texts, old=False):
    """SentencePiece's own pieces and precompiled normalizer, put together as XLM-R's file is."""
    path = os.path.join(FOLDER, 'pieces')
    with open(path + '.txt', 'w', encoding='utf8') as f:
        f.write('\n'.join(x.replace('\n', ' ') for x in texts))
    sentencepiece.SentencePieceTrainer.train(input=path + '.txt', model_prefix=path, vocab_size=6000, model_type='unigram', minloglevel=2,
                                             normalization_rule_name='nmt_nfkc', num_threads=1)
    m = sentencepiece_model_pb2.ModelProto()
    with open(path + '.model', 'rb') as f:
        m.ParseFromString(f.read())
    pieces = [(s, 0.0) for s in SPECIAL[:4]] + [(p.piece, p.score) for p in m.pieces][3:]
    t = Tokenizer(models.Unigram(pieces, unk_id=3))
    t.normalizer = normalizers.Sequence([normalizers.Precompiled(m.normalizer_spec.precompiled_charsmap), normalizers.Replace(Regex(' {2,}'), ' ')])
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]) if old else pre_tokenizers.Metaspace()
    t.post_processor = processors.TemplateProcessing(single='<s> $A </s>', special_tokens=[('<s>', 0), ('</s>', 2)])
    t.add_special_tokens(SPECIAL[:4])
    return t


def nfkc(texts):
    t = Tokenizer(models.Unigram())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.train_from_iterator(texts, trainers.UnigramTrainer(vocab_size=4000, special_tokens=SPECIAL[:4], unk_token='<unk>', show_progress=False))
    return t


KINDS = {'bert': bert, 'roberta': roberta, 'roberta_space': lambda texts: roberta(texts, True),
         'xlmr': xlmr, 'xlmr_old': lambda texts: xlmr(texts, True), 'nfkc': nfkc}


def training_texts(sentences, answers):
    return sentences[:20000] + answers[:3000] + ['naïve café ÀÉ 你好世界 привет мир 안녕하세요 😀 '] * 50


def tokenizers(training):
    """Each kind: its name, the package's tokenizer, and the file that it is."""
    for kind, make in KINDS.items():
        if wanted(kind):
            path = os.path.join(FOLDER, kind + '.json')
            tokenizer = make(training)
            tokenizer.save(path)
            yield kind, tokenizer, path
    folder, why_not = minilm.find()
    if folder is None:
        tap.note(why_not)
        return
    for kind, file in (('minilm', 'tokenizer.json'), ('minilm_vocab', 'vocab.txt')):
        if wanted(kind) and (folder / file).exists():
            tokenizer = Tokenizer.from_file(str(folder / 'tokenizer.json'))
            tokenizer.no_padding()
            tokenizer.no_truncation()
            yield kind, tokenizer, str(folder / file)


def wanted(kind):
    return len(sys.argv) < 2 or kind in sys.argv[1:]


def random_texts(n, seed):
    rng = random.Random(seed)
    pools = [lambda: chr(rng.randrange(1, 0x250)), lambda: chr(rng.randrange(1, 0xd800)), lambda: chr(rng.randrange(0x300, 0x370)),
             lambda: chr(rng.choice([rng.randrange(0xe000, 0x110000), rng.randrange(0x1f000, 0x20000), rng.randrange(0x10000, 0x12000)])),
             lambda: rng.choice(' \t\n.,\'!?-[]<>/_\u2581\u00a0\u200d\ufe0f'), lambda: chr(rng.randrange(0xac00, 0xd7a4)),
             lambda: rng.choice(['the ', '[MASK]', "'re", "'s", 'naïve', '<mask>', '</s>', '  ', '0', '12'])]
    for _ in range(n):
        some = rng.choices(pools, k=3)
        yield ''.join(rng.choice(some)() for _ in range(rng.randrange(0, 30)))
    for _ in range(n // 50):
        marks = rng.sample(range(0x300, 0x370), rng.randrange(1, 8)) + [0x1161, 0x11a8, 0x3099]
        yield rng.choice('aé가か\ufb01') + ''.join(chr(rng.choice(marks)) for _ in range(rng.randrange(30, 200))) + 'b'


def characters():
    """Each character between letters, and behind a digit; a share of them unless all are wanted."""
    step = 1 if FULL else 17
    for c in range(1, 0x110000, step):
        if not 0xd800 <= c < 0xe000:
            yield 'a%sb' % chr(c)
            if not FULL or c % 5 == 0:
                yield '1%s' % chr(c)


def compare(kind, tokenizer, path, what, texts):
    """The same ids from the tool as from the package; how many places differ, of how many tokens."""
    wrong, places, tokens, lines = [], 0, 0, 0
    for i in range(0, len(texts), CHUNK):
        chunk = [t.replace('\0', '') for t in texts[i:i + CHUNK]]
        out = subprocess.run([TOOL, path], input=b''.join(t.encode() + b'\0' for t in chunk), stdout=subprocess.PIPE, check=True).stdout.decode().split('\n')[:-1]
        lines += len(out)
        for text, line, e in zip(chunk, out, tokenizer.encode_batch(chunk)):
            ours = [t.split(':') for t in line.split()]
            tokens += len(ours)
            if [int(i) for i, _ in ours] != e.ids:
                wrong.append((text, [int(i) for i, _ in ours][:20], e.ids[:20]))
                continue
            character = list(itertools.accumulate((byte & 0xc0 != 0x80 for byte in text.encode()), initial=0))     # that a byte begins
            for (_, place), expected in zip(ours, e.offsets):
                start, end = (character[int(x)] for x in place.split('-'))
                places += (start, end) != expected
    tap.same((lines, wrong[:3]), (len(texts), []), '%s: %d tokens of %d texts, %s' % (kind, tokens, len(texts), what))
    return places, tokens


def main():
    if not os.path.exists(TOOL):
        tap.skip_all('needs %s (make tools)' % TOOL)
    os.makedirs(FOLDER, exist_ok=True)
    os.environ['TOKENIZERS_PARALLELISM'] = 'false'
    sentences, answers = real_texts()
    share = 1 if FULL else 20
    for kind, tokenizer, path in tokenizers(training_texts(sentences, answers)):
        compare(kind, tokenizer, path, 'every character', list(characters()))
        compare(kind, tokenizer, path, 'random Unicode', list(random_texts(100000 if FULL else 5000, 20261121)))
        places, tokens = 0, 0
        for what, texts in (('SST-2', sentences[::share]), ('MedQuAD', answers[::share]), ('long', ['\n'.join(answers[:2000])[:10 ** 7 if FULL else 10 ** 6]])):
            p, n = compare(kind, tokenizer, path, what, texts)
            places, tokens = places + p, tokens + n
        # a composed character has the place of its first; beyond that only what lies between tokens can differ
        tap.ok(places <= tokens // 1000, '%s: places in the text, %d of %d tokens differ' % (kind, places, tokens))
    tap.done()


if __name__ == '__main__':
    main()
