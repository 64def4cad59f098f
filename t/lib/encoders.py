"""Small encoders with random weights, written as transformers saves them, and what they compute, in numpy and float64."""
import json
import math
import os

import numpy as np
from scipy.special import erf

WORDS = '[PAD] [UNK] [CLS] [SEP] [MASK]'.split() + [chr(97 + i) for i in range(26)] + ['##' + chr(97 + i) for i in range(26)]

# model_type: (prefix of a model with a head, names of a layer's parts, where config.json differs from BERT's)
BERT = dict(layers='encoder.layer', q='attention.self.query', k='attention.self.key', v='attention.self.value', o='attention.output.dense',
            on='attention.output.LayerNorm', up='intermediate.dense', down='output.dense', n='output.LayerNorm')
DISTILBERT = dict(layers='transformer.layer', q='attention.q_lin', k='attention.k_lin', v='attention.v_lin', o='attention.out_lin',
                  on='sa_layer_norm', up='ffn.lin1', down='ffn.lin2', n='output_layer_norm')
MPNET = dict(BERT, q='attention.attn.q', k='attention.attn.k', v='attention.attn.v', o='attention.attn.o', on='attention.LayerNorm')
NAMES = {'bert': ('bert.', BERT), 'distilbert': ('distilbert.', DISTILBERT), 'roberta': ('roberta.', BERT), 'xlm-roberta': ('roberta.', BERT),
         'camembert': ('roberta.', BERT), 'mpnet': ('mpnet.', MPNET)}
KEYS = {'distilbert': dict(hidden_size='dim', num_hidden_layers='n_layers', num_attention_heads='n_heads', intermediate_size='hidden_dim',
                           hidden_act='activation')}
ACTS = {
    'gelu': lambda x: x / 2 * (1 + erf(x / math.sqrt(2))),
    'gelu_new': lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x ** 3))),
    'relu': lambda x: np.maximum(x, 0),
    'silu': lambda x: x / (1 + np.exp(-x)),
}


# ---- writing


def pack(x, dtype):
    """Bytes of a safetensors type, and what they are worth."""
    x = x.astype(np.float32)
    if dtype == 'F16':
        h = x.astype(np.float16)
        return h.tobytes(), h.astype(np.float64)
    if dtype == 'BF16':
        bits = x.view(np.uint32) + 0x8000
        return (bits >> 16).astype(np.uint16).tobytes(), (bits & 0xffff0000).astype(np.uint32).view(np.float32).astype(np.float64)
    return x.tobytes(), x.astype(np.float64)


def write_safetensors(path, tensors, odd=False):
    """tensors: {name: (type, shape, bytes)}; odd: the numbers lie at an odd address."""
    header, at = {'__metadata__': {'format': 'pt'}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = dict(dtype=dtype, shape=list(shape), data_offsets=[at, at + len(data)])
        at += len(data)
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8 + odd)
    with open(path, 'wb') as f:
        f.write(len(text).to_bytes(8, 'little') + text + b''.join(data for _, _, data in tensors.values()))


def write_words(folder):
    with open(os.path.join(folder, 'vocab.txt'), 'w') as f:
        f.write('\n'.join(WORDS) + '\n')


def make(folder, model_type, seed, hidden, heads, layers, intermediate, act, dtype, positions, vocabulary=64, head=False, old=False, shards=1):
    """Write the folder; returns its config and tensors.  head: saved with one; old: LayerNorm's gamma and beta."""
    r = np.random.default_rng(seed)
    prefix, names = NAMES[model_type]
    w, stored = {}, {}

    def add(name, *shape, scale=None):
        deviation = 1 / math.sqrt(shape[-1]) if scale is None and len(shape) > 1 else scale or 0.3
        x = r.normal(0, deviation, shape) + (name.endswith('weight') and len(shape) == 1)
        if old and 'LayerNorm' in name:
            name = name.replace('weight', 'gamma').replace('bias', 'beta')
        data, w[name] = pack(x, dtype)
        stored[(prefix if head else '') + name] = (dtype, shape, data)

    def linear(name, out, inputs):
        add(name + '.weight', out, inputs)
        add(name + '.bias', out)

    def norm(name):
        add(name + '.weight', hidden)
        add(name + '.bias', hidden)

    add('embeddings.word_embeddings.weight', vocabulary, hidden, scale=1)
    add('embeddings.position_embeddings.weight', positions, hidden, scale=0.5)
    if model_type not in ('distilbert', 'mpnet'):
        add('embeddings.token_type_embeddings.weight', 2 if model_type == 'bert' else 1, hidden, scale=0.5)
    norm('embeddings.LayerNorm')
    if model_type == 'mpnet':
        add('encoder.relative_attention_bias.weight', 32, heads, scale=1)
    for i in range(layers):
        at = '%s.%d.' % (names['layers'], i)
        for part in 'qkvo':
            linear(at + names[part], hidden, hidden)
        norm(at + names['on'])
        linear(at + names['up'], intermediate, hidden)
        linear(at + names['down'], hidden, intermediate)
        norm(at + names['n'])
    if head:        # what no encoder reads
        stored['cls.predictions.bias'] = (dtype, (vocabulary,), pack(np.zeros(vocabulary), dtype)[0])
        stored[prefix + 'embeddings.position_ids'] = ('I64', (1, positions), np.arange(positions).tobytes())
    config = dict(model_type=model_type, hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=intermediate,
                  hidden_act=act, vocab_size=vocabulary, max_position_embeddings=positions, type_vocab_size=2 if model_type == 'bert' else 1,
                  layer_norm_eps=1e-5 if 'roberta' in model_type else 1e-12, pad_token_id=0 if model_type in ('bert', 'distilbert') else 1)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, 'config.json'), 'w') as f:
        json.dump({KEYS.get(model_type, {}).get(k, k): v for k, v in config.items()}, f)
    if shards == 1:
        write_safetensors(os.path.join(folder, 'model.safetensors'), stored, odd=seed % 2)
    else:
        files = ['model-%05d-of-%05d.safetensors' % (i + 1, shards) for i in range(shards)]
        place = {name: files[i % shards] for i, name in enumerate(stored)}
        for file in files:
            write_safetensors(os.path.join(folder, file), {n: t for n, t in stored.items() if place[n] == file})
        with open(os.path.join(folder, 'model.safetensors.index.json'), 'w') as f:
            json.dump({'metadata': {'total_size': 1}, 'weight_map': place}, f)
    write_words(folder)
    return config, w


def load(folder):
    """Config and tensors of a BERT that has neither head nor halves."""
    with open(os.path.join(folder, 'config.json')) as f:
        config = json.load(f)
    with open(os.path.join(folder, 'model.safetensors'), 'rb') as f:
        data = f.read()
    start = 8 + int.from_bytes(data[:8], 'little')
    w = {}
    for name, t in json.loads(data[8:start]).items():
        if t.get('dtype') == 'F32':
            begin, end = (start + at for at in t['data_offsets'])
            w[name] = np.frombuffer(data[begin:end], np.float32).reshape(t['shape']).astype(np.float64)
    return config, w


# ---- computing


def buckets(n):
    """MPNet's: T5's, both ways, 32 of them, up to a distance of 128."""
    far = np.arange(n)[None, :] - np.arange(n)[:, None]
    distance = np.abs(far)
    log = 8 + (np.log(np.maximum(distance, 1) / 8) / math.log(128 / 8) * 8).astype(int)
    return np.where(far > 0, 16, 0) + np.where(distance < 8, distance, np.minimum(log, 15))


def hidden_states(config, w, ids):
    """What each layer gives: list of tokens x hidden, the embeddings first."""
    kind, heads = config['model_type'], config['num_attention_heads']
    names, act = NAMES[kind][1], ACTS[config['hidden_act']]
    ids, eps = np.array(ids), 1e-12 if kind == 'distilbert' else config['layer_norm_eps']

    def linear(x, name):
        return x @ w[name + '.weight'].T + w[name + '.bias']

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        scale, shift = (w.get('%s.%s' % (name, new), w.get('%s.%s' % (name, old))) for new, old in (('weight', 'gamma'), ('bias', 'beta')))
        return x / np.sqrt((x ** 2).mean(-1, keepdims=True) + eps) * scale + shift

    def split(x):
        return x.reshape(len(ids), heads, -1).transpose(1, 0, 2)

    places = np.arange(len(ids))
    if kind not in ('bert', 'distilbert'):      # padding has its own place, others count behind it
        padding = config['pad_token_id']
        places = np.cumsum(ids != padding) * (ids != padding) + padding
    x = w['embeddings.word_embeddings.weight'][ids] + w['embeddings.position_embeddings.weight'][places]
    if 'embeddings.token_type_embeddings.weight' in w:
        x = x + w['embeddings.token_type_embeddings.weight'][0]
    x = norm(x, 'embeddings.LayerNorm')
    bias = w['encoder.relative_attention_bias.weight'][buckets(len(ids))].transpose(2, 0, 1) if kind == 'mpnet' else 0
    states = [x]
    for i in range(config['num_hidden_layers']):
        at = '%s.%d.' % (names['layers'], i)
        q, k, v = (split(linear(x, at + names[part])) for part in 'qkv')
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]) + bias
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        x = norm(linear(mixed.transpose(1, 0, 2).reshape(x.shape), at + names['o']) + x, at + names['on'])
        x = norm(linear(act(linear(x, at + names['up'])), at + names['down']) + x, at + names['n'])
        states.append(x)
    return states
