# timeout: 600
"""Hidden states of every layer, of every family, type of weights and activation: against numpy in float64, and, where
transformers and torch are installed, against the models of transformers as it saves them; graphs against ONNX Runtime.

  t/test_text_encoders.py [case]        needs unit/bin/encode; MILLRACE_FULL=1: folders of sentence-transformers too
"""
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.path.join(ROOT, 'unit', 'bin', 'encode')
FOLDER = os.environ.get('MILLRACE_TMP') or os.path.join(ROOT, 'tmp', 'text_encoders')
try:
    import numpy as np
    import onnxruntime
    from lib import encoders, exports
except ImportError as e:
    tap.skip_all(str(e))
CLOSE = 1e-5    # of a layer's largest number
LENGTHS = (1, 2, 3, 5, 8, 15, 16, 17, 31, 33, 64, 90, 130, 200)

# name: model_type, hidden, heads, layers, intermediate, act, type of weights, positions, and what else make() takes
CASES = {
    'bert': ('bert', 48, 4, 3, 96, 'gelu', 'F32', 64, {}),
    'bert-half': ('bert', 33, 3, 2, 70, 'gelu_new', 'F16', 40, dict(head=True)),
    'bert-bf16': ('bert', 40, 5, 2, 17, 'relu', 'BF16', 33, dict(shards=3)),
    'bert-odd': ('bert', 7, 1, 1, 5, 'silu', 'F32', 20, dict(old=True)),
    'bert-wide': ('bert', 128, 2, 2, 300, 'gelu', 'F32', 210, dict(vocabulary=1000)),
    'distilbert': ('distilbert', 64, 4, 2, 128, 'gelu', 'F32', 64, {}),
    'distilbert-half': ('distilbert', 36, 6, 3, 50, 'relu', 'F16', 40, dict(head=True)),
    'roberta': ('roberta', 48, 3, 2, 96, 'gelu', 'F32', 66, {}),
    'xlm-roberta': ('xlm-roberta', 32, 4, 2, 100, 'gelu', 'F16', 66, dict(vocabulary=5000, head=True)),
    'camembert': ('camembert', 80, 5, 2, 64, 'gelu_new', 'BF16', 36, {}),
    'mpnet': ('mpnet', 48, 4, 3, 96, 'gelu', 'F32', 202, {}),
    'mpnet-half': ('mpnet', 20, 5, 2, 44, 'gelu', 'F16', 66, dict(head=True, shards=2)),
}


def run_tool(folder, sequences, layer, *options):
    """Rows of each sequence's tokens, None where it was refused."""
    text = ''.join(' '.join(map(str, s)) + '\n' for s in sequences).encode()
    ran = subprocess.run([TOOL, folder, '--ids', '--layer', str(layer), *options], input=text, capture_output=True)
    if ran.returncode:
        tap.note(ran.stderr.decode())
        return None
    head, _, body = ran.stdout.partition(b'\n')
    head = json.loads(head)
    rows = np.frombuffer(body, np.float32).reshape(-1, head['hidden'])
    return np.split(rows, np.cumsum(head['lengths'])[:-1])


def check(name, folder, sequences, expected, layers, *options):
    """expected[sequence][layer]: tokens x hidden"""
    worst = 0
    for layer in layers:
        got = run_tool(folder, sequences, layer, *options)
        if got is None:
            worst = np.inf
            break
        for g, e in zip(got, expected):
            worst = max(worst, np.abs(g - e[layer]).max() / np.abs(e[layer]).max())
    tap.ok(worst <= CLOSE, '%s: worst relative error %.1e' % (name, worst))


def random_sequences(seed, vocabulary, longest, padding):
    r = np.random.default_rng(seed)
    sequences = [r.integers(0, vocabulary, n).tolist() for n in LENGTHS if n <= longest] + [r.integers(0, vocabulary, longest).tolist()]
    sequences[3][2] = padding       # in the middle of a text
    return sequences


def against_numpy(seed, name, case):
    model_type, hidden, heads, layers, intermediate, act, dtype, positions, more = case
    folder = os.path.join(FOLDER, name)
    config, w = encoders.make(folder, model_type, seed, hidden, heads, layers, intermediate, act, dtype, positions, **more)
    padding = config['pad_token_id']
    longest = positions - (0 if model_type in ('bert', 'distilbert') else padding + 1)
    sequences = random_sequences(seed, config['vocab_size'], longest, padding)
    expected = [encoders.hidden_states(config, w, s) for s in sequences]
    what = '%s, %d x %d heads, %s, %s' % (name, hidden, heads, act, dtype)
    check(what, folder, sequences, expected, range(layers + 1))
    if name in ('bert', 'mpnet'):
        for isa in ('portable', 'avx2'):
            check('%s, %s' % (what, isa), folder, sequences, expected, [-1], '--isa', isa)
        alone = [run_tool(folder, [s], -1)[0] for s in sequences]
        tap.ok(all(np.array_equal(a, b) for a, b in zip(alone, run_tool(folder, sequences, -1))), '%s: bit-equal alone and in a batch' % name)
    shutil.rmtree(folder)


def minilm(folder):
    texts = tap.data('sst2/dev.tsv')
    if not texts:
        return tap.note('skipped: MiniLM: needs the real data: sst2')
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(os.path.join(folder, 'tokenizer.json'))
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    texts = [line.split('\t', 1)[1].rstrip('\n') for line in open(texts, encoding='utf8')][:30]
    sequences = [tokenizer.encode(t).ids for t in texts + [' '.join(texts)]]
    config, w = encoders.load(folder)
    check('MiniLM', folder, sequences, [encoders.hidden_states(config, w, s) for s in sequences], range(7))


# ---- transformers


def against_transformers(seed, name, case):
    import torch
    import transformers
    model_type, hidden, heads, layers, intermediate, act, dtype, positions, more = case
    config = transformers.AutoConfig.for_model(
        model_type, hidden_size=hidden, num_attention_heads=heads, num_hidden_layers=layers, intermediate_size=intermediate, hidden_act=act,
        activation=act, dim=hidden, hidden_dim=intermediate, vocab_size=more.get('vocabulary', 64), max_position_embeddings=positions,
        type_vocab_size=2 if model_type == 'bert' else 1)
    torch.manual_seed(seed)
    model = (transformers.AutoModelForMaskedLM.from_config(config) if more.get('head') else transformers.AutoModel.from_config(config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            wide = parameter.dim() > 1
            parameter.copy_(torch.randn_like(parameter) * (parameter.shape[-1] ** -.5 if wide else 0.3) + (0 if wide else 0.5))
    model = model.to({'F32': torch.float32, 'F16': torch.float16, 'BF16': torch.bfloat16}[dtype])
    folder = os.path.join(FOLDER, name)
    model.save_pretrained(folder, **({'max_shard_size': '20KB'} if 'shards' in more else {}))
    encoders.write_words(folder)
    model = getattr(model, model.base_model_prefix, model).double()
    padding = config.pad_token_id if model_type not in ('bert', 'distilbert') else -1
    sequences = random_sequences(seed, config.vocab_size, positions - padding - 1, max(padding, 0))
    with torch.no_grad():
        expected = [[h[0].numpy() for h in model(torch.tensor([s]), attention_mask=torch.ones(1, len(s), dtype=torch.long),
                                                 output_hidden_states=True).hidden_states] for s in sequences]
    check('%s, as transformers %s saves it' % (name, transformers.__version__), folder, sequences, expected, range(layers + 1))
    shutil.rmtree(folder)


# ---- sentence-transformers: what the folder's other files say


def against_sentence_transformers():
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import AutoTokenizer
    texts = ['Hello World', 'a b c', 'zzz', 'É \u00e4 x [MASK] y', 'ab \u4f60y', 'the quick brown fox jumps over the lazy dog and so on']
    base, folder = os.path.join(FOLDER, 'base'), os.path.join(FOLDER, 'sentences')

    def compare(name):
        expected = SentenceTransformer(folder, device='cpu').encode(texts)
        ran = subprocess.run([TOOL, folder, '--max', '20'], input=b''.join(t.encode() + b'\0' for t in texts), capture_output=True)
        got = np.frombuffer(ran.stdout.partition(b'\n')[2], np.float32)
        far = np.abs(got.reshape(expected.shape) - expected).max() / np.abs(expected).max() if got.size == expected.size else np.inf
        tap.ok(far <= CLOSE, 'sentence-transformers, %s: worst relative error %.1e' % (name, far))
        tap.note(ran.stderr.decode())

    def change(file, **values):
        with open(os.path.join(folder, file)) as f:
            content = json.load(f)
        with open(os.path.join(folder, file), 'w') as f:
            json.dump(dict(content, **values), f)

    for seed, (kind, pooling) in enumerate((('bert', 'mean'), ('distilbert', 'cls'), ('mpnet', 'max'), ('bert', 'mean_sqrt_len_tokens'))):
        shutil.rmtree(base, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        encoders.make(base, kind, seed, 32, 4, 2, 64, 'gelu', 'F32', 40)
        AutoTokenizer.from_pretrained(base, do_lower_case=True).save_pretrained(base)
        modules = [Transformer(base, max_seq_length=20), Pooling(32, pooling)] + [Normalize()] * (seed % 2)
        SentenceTransformer(modules=modules, device='cpu').save(folder)
        compare('%s, %s%s' % (kind, pooling, ', normalized' if seed % 2 else ''))
    for lower, strip, chinese, first in ((True, None, True, True), (False, None, True, False), (False, None, False, True), (True, False, True, False),
                                         (False, True, True, True)):
        change('tokenizer_config.json', do_lower_case=lower, strip_accents=strip, tokenize_chinese_chars=chinese)
        change('sentence_bert_config.json', do_lower_case=first)
        compare('do_lower_case %s, strip_accents %s, tokenize_chinese_chars %s, lower-cased before %s' % (lower, strip, chinese, first))
    shutil.rmtree(base)
    shutil.rmtree(folder)


# ---- graphs


def graph(name):
    """A graph of t/exports with random weights; config.json tells how long sequences may be."""
    folder = os.path.join(FOLDER, 'graph-' + name)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, 'model.onnx')
    exports.fill(os.path.join(ROOT, 't', 'exports', name + '.onnx.gz'), path)
    encoders.write_words(folder)
    with open(os.path.join(folder, 'config.json'), 'w') as f:
        json.dump({'model_type': 'anything', 'max_position_embeddings': 70, 'num_hidden_layers': 6, 'vocab_size': 1000}, f)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    fixed = session.get_inputs()[0].shape[1]
    fixed = fixed if isinstance(fixed, int) else None
    sequences = random_sequences(1, 1000, fixed or 70, 0)
    output = next(o.name for o in session.get_outputs() if len(o.shape) == 3)
    expected = []
    for s in sequences:
        gap = [0] * ((fixed or len(s)) - len(s))
        values = {'input_ids': s + gap, 'attention_mask': [1] * len(s) + gap, 'token_type_ids': [0] * len(s) + gap}
        given = {i.name: np.array([values[i.name]]) for i in session.get_inputs()}
        expected.append({-1: session.run([output], given)[0][0][:len(s)]})
    check('graph %s against ONNX Runtime' % name, folder, sequences, expected, [-1])
    tap.ok(run_tool(folder, sequences[:1], 3) is None, 'graph %s: another layer is refused' % name)
    shutil.rmtree(folder)


def main():
    if not os.path.exists(TOOL):
        tap.skip_all('needs %s (make tools)' % TOOL)
    wanted = sys.argv[1:]
    cases = {name: case for name, case in CASES.items() if not wanted or name in wanted}
    for seed, (name, case) in enumerate(cases.items()):
        against_numpy(seed, name, case)
    folder = os.environ.get('MILLRACE_MINILM') or os.path.expanduser('~/.cache/millrace/minilm')
    if not os.path.exists(os.path.join(folder, 'model.safetensors')):
        tap.note('skipped: MiniLM: it is not in %s (tools/models fetch)' % folder)
    elif not wanted or 'minilm' in wanted:
        minilm(folder)
    for name in ('minilm', 'minilm_dynamo', 'optimum_minilm'):
        if not wanted or name in wanted:
            graph(name)
    try:
        import torch
        import transformers
    except ImportError as e:
        tap.note('skipped: models of transformers: %s' % e)
        tap.done()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for seed, (name, case) in enumerate(cases.items()):
        against_transformers(seed, name, case)
    if os.environ.get('MILLRACE_FULL') == '1' or 'sentences' in wanted:
        try:
            against_sentence_transformers()
        except ImportError as e:
            tap.note('skipped: sentence-transformers: %s' % e)
    tap.done()


if __name__ == '__main__':
    main()
