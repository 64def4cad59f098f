"""all-MiniLM-L6-v2 for tests: the folder, into a cluster, and what its embeddings are by other libraries' word.

    minilm.folder()                   fetched once into ~/.cache/millrace (tools/models); the test is skipped where that fails
    minilm.install(cluster)           as model "minilm", the way `make models` does it
    minilm.encode(texts)              sentence-transformers' numbers in the full check where that is installed, else by tokenizers,
                                      numpy and scipy (the same within 3e-7)
"""
import itertools
import json
import os
import pathlib
import subprocess
import sys

from lib import tap

os.environ.setdefault("OMP_NUM_THREADS", "1")   # before numpy is loaded
ROOT = pathlib.Path(__file__).resolve().parents[2]
HEADS = 12
_model = None


def find():
    """The folder, or None, and why not."""
    done = subprocess.run([str(ROOT / "tools/models"), "fetch"], env=dict(os.environ, PYTHON=sys.executable), text=True, capture_output=True)
    if done.returncode:
        return None, "MiniLM is not reachable: " + (done.stderr.strip().splitlines() or ["?"])[-1]
    return pathlib.Path(done.stdout.strip()), None


def folder():
    path, why_not = find()
    return path or tap.skip_all(why_not)


def install(cluster, db="postgres"):
    """What tools/models printed."""
    env = cluster.env(MILLRACE_MINILM=str(folder()), PGDATABASE=db)
    env["PATH"] = "%s:%s" % (cluster.bin, env["PATH"])
    return subprocess.run([str(ROOT / "tools/models")], env=env, text=True, check=True, stdout=subprocess.PIPE).stdout


class Plain:
    """The model from its files in a few lines of numpy, float32, one length at a time: no padding, no masks."""

    def __init__(self, path, max_tokens=256):
        import numpy as np
        from scipy.special import erf
        from tokenizers import Tokenizer
        self.np, self.erf = np, erf
        self.tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(max_tokens)
        blob = (path / "model.safetensors").read_bytes()
        size = int.from_bytes(blob[:8], "little")
        self.weight = {name: np.frombuffer(blob[8 + size + t["data_offsets"][0]:8 + size + t["data_offsets"][1]], np.float32).reshape(t["shape"])
                       for name, t in json.loads(blob[8:8 + size]).items() if name != "__metadata__" and t["dtype"] == "F32"}

    def linear(self, x, name):
        return x @ self.weight[name + ".weight"].T + self.weight[name + ".bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / self.np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12) * self.weight[name + ".weight"] + self.weight[name + ".bias"]

    def hidden(self, ids):
        """ids: texts x tokens, all of one length."""
        np, (texts, tokens) = self.np, ids.shape
        w = self.weight
        x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][:tokens] + w["embeddings.token_type_embeddings.weight"][0]
        x = self.norm(x, "embeddings.LayerNorm")
        for i in range(6):
            at = "encoder.layer.%d." % i
            q, k, v = (self.linear(x, at + "attention.self." + n).reshape(texts, tokens, HEADS, -1).transpose(0, 2, 1, 3) for n in ("query", "key", "value"))
            s = q @ k.transpose(0, 1, 3, 2) / np.sqrt(np.float32(q.shape[-1]))
            s = np.exp(s - s.max(-1, keepdims=True))
            s = (s / s.sum(-1, keepdims=True)) @ v
            x = self.norm(x + self.linear(s.transpose(0, 2, 1, 3).reshape(texts, tokens, -1), at + "attention.output.dense"), at + "attention.output.LayerNorm")
            h = self.linear(x, at + "intermediate.dense")
            h = h * np.float32(.5) * (1 + self.erf(h / np.sqrt(np.float32(2))))
            x = self.norm(x + self.linear(h, at + "output.dense"), at + "output.LayerNorm")
        return x

    def encode(self, texts):
        np = self.np
        ids = [e.ids for e in self.tokenizer.encode_batch(list(texts))]
        out = np.empty((len(ids), 384), np.float32)
        for _, same in itertools.groupby(sorted(range(len(ids)), key=lambda i: len(ids[i])), key=lambda i: len(ids[i])):
            same = list(same)
            for part in (same[i:i + 64] for i in range(0, len(same), 64)):
                mean = self.hidden(np.array([ids[k] for k in part])).mean(1)
                out[part] = mean / np.sqrt((mean * mean).sum(-1, keepdims=True))
        return out


def encode(texts):
    """Embeddings, texts x 384, and who made them."""
    global _model
    if _model is None:
        try:
            if not os.environ.get("MILLRACE_FULL"):
                raise ImportError("takes long to load")
            os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
            from sentence_transformers import SentenceTransformer
            _model = SentenceTransformer(str(folder()), device="cpu")
        except ImportError:
            _model = Plain(folder())
    if isinstance(_model, Plain):
        return _model.encode(texts), "numpy"
    return _model.encode(list(texts), batch_size=64, convert_to_numpy=True), "sentence-transformers"
