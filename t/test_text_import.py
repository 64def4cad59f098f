#!/usr/bin/env python3
# timeout: 900
"""Encoders imported on a real server: small random ones of every family and a graph, right numbers; and folders with
mistakes or damage at random, each a clear ERROR that leaves nothing behind.

  t/test_text_import.py                 MILLRACE_FULL=1: ten times as many damaged folders; MILLRACE_SEED=n: these
"""
import json
import os
import pathlib
import random
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import tap
from lib.cluster import Cluster, find_pg_config, relocate

try:
    import numpy as np
    import onnx
    import psycopg
    from lib import encoders
    from onnx import TensorProto, helper
except ImportError as e:
    tap.skip_all(str(e))

TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_text_import")).resolve()
FULL = bool(os.environ.get("MILLRACE_FULL"))
SEED = int(os.environ.get("MILLRACE_SEED", "7"))
SIZES = dict(seed=1, hidden=24, heads=3, layers=2, intermediate=40, act="gelu", dtype="F32", positions=40)
TEXTS = ["a b c", "", "z", "a b c d e f g h i j k l m n o p q r s t u v w x y z", "b a"]
POOLING = "1_Pooling/config.json"


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def make(model_type, **sizes):
    """Files of a small encoder, its config and tensors."""
    folder = TMP / "folder"
    shutil.rmtree(folder, ignore_errors=True)
    config, w = encoders.make(str(folder), model_type, **dict(SIZES, **sizes))
    return files_of(folder), config, w


def graph(tokens="tokens"):
    """input_ids, attention_mask to rows of a table: a network that pooling shows."""
    table = np.random.default_rng(3).normal(size=(64, 24)).astype(np.float32)
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["rows"]), helper.make_node("Cast", ["attention_mask"], ["mask"], to=1),
             helper.make_node("Unsqueeze", ["mask", "last"], ["wide"]), helper.make_node("Mul", ["rows", "wide"], ["last_hidden_state"])]
    ports = [helper.make_tensor_value_info(n, TensorProto.INT64, ["batch", tokens]) for n in ("input_ids", "attention_mask")]
    out = helper.make_tensor_value_info("last_hidden_state", 1, ["batch", tokens, 24])
    g = helper.make_graph(nodes, "g", ports, [out], [onnx.numpy_helper.from_array(table, "table"), helper.make_tensor("last", 7, [1], [2])])
    model = helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    words = "\n".join(encoders.WORDS).encode()
    return {"onnx/model.onnx": model.SerializeToString(), "vocab.txt": words, "config.json": b'{"max_position_embeddings": 40}'}, table


def import_files(s, name, files, spec=None):
    oids = {n: s.execute("SELECT lo_from_bytea(0, %s)", (data,), binary=True).fetchone()[0] for n, data in files.items()}
    try:
        return s.execute("SELECT millrace.import_model_files(%s, %s, %s)", (name, json.dumps(oids), json.dumps(spec or {}))).fetchone()[0]
    finally:
        if s.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            for oid in oids.values():
                s.execute("SELECT lo_unlink(%s)", (oid,))


def ids_of(text):
    """[CLS] letters [SEP]"""
    return [2] + [encoders.WORDS.index(c) for c in text.split()] + [3]


def compare(s, name, model, expected):
    got = np.array([r[0] for r in s.execute("SELECT embed(%s::text[], %s)", (TEXTS, model), binary=True)], np.float32)
    far = np.abs(got - expected).max() / np.abs(expected).max()
    alone = [s.execute("SELECT embed(%s, %s)", (t, model), binary=True).fetchone()[0] for t in TEXTS]
    tap.ok(far < 1e-5 and np.array_equal(np.array(alone, np.float32), got), "%s: worst relative error %.1e, alone the same bits" % (name, far))


# ---- the right numbers


def test_families(s):
    for i, model_type in enumerate(encoders.NAMES):
        files, config, w = make(model_type, seed=i, dtype=("F32", "F16", "BF16")[i % 3], shards=1 + i % 2)
        version = import_files(s, "family", files)
        expected = np.array([encoders.hidden_states(config, w, ids_of(t))[-1].mean(0) for t in TEXTS])
        compare(s, model_type, "family:%d" % version, expected)


def test_pooling(s):
    files, config, w = make("bert")
    last = [encoders.hidden_states(config, w, ids_of(t))[-1] for t in TEXTS]
    modules = [{"path": p, "type": "sentence_transformers.models." + t} for p, t in (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))]
    pools = {"cls": lambda x: x[0], "max": lambda x: x.max(0), "mean_sqrt_len_tokens": lambda x: x.sum(0) / len(x) ** .5, "mean": lambda x: x.mean(0)}
    for i, (mode, pool) in enumerate(pools.items()):
        files["modules.json"] = json.dumps(modules[:2 + i % 2]).encode()
        files[POOLING] = json.dumps({"pooling_mode": mode} if i % 2 else {"pooling_mode_cls_token": mode == "cls", "pooling_mode_mean_tokens": False,
                                                                           "pooling_mode_mean_sqrt_len_tokens": mode != "cls"}).encode()
        expected = np.array([pool(x) for x in last])
        if i % 2:
            expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        compare(s, "pooling %s" % mode, "pooled:%d" % import_files(s, "pooled", files), expected)


def test_graph(s):
    files, table = graph()
    compare(s, "a graph", "graph:%d" % import_files(s, "graph", files), np.array([table[ids_of(t)].mean(0) for t in TEXTS]))
    files, table = graph(28)
    compare(s, "a graph for 28 tokens", "graph:%d" % import_files(s, "graph", files), np.array([table[ids_of(t)].mean(0) for t in TEXTS]))


def test_overflow(s):
    files, _, _ = make("bert")
    weights = bytearray(files["model.safetensors"])
    start = 8 + int.from_bytes(weights[:8], "little")
    begin, end = json.loads(weights[8:start])["encoder.layer.0.intermediate.dense.weight"]["data_offsets"]
    weights[start + begin:start + end] = np.full((end - begin) // 4, 1e38, np.float32).tobytes()
    version = import_files(s, "huge", dict(files, **{"model.safetensors": bytes(weights)}))
    try:
        s.execute("SELECT embed('a b', %s)", ("huge:%d" % version,))
        tap.ok(False, "weights that overflow: no error")
    except psycopg.Error as e:
        tap.same(e.sqlstate, "22003", "weights that overflow: %s" % str(e).splitlines()[0])


# ---- mistakes


def refused(s, name, files, sqlstate, part):
    try:
        import_files(s, "bad", files)
        tap.ok(False, name + ": no error")
    except psycopg.Error as e:
        tap.same((e.sqlstate, part in str(e)), (sqlstate, True), "%s: %s" % (name, str(e).splitlines()[0]))


def test_mistakes(s):
    good, config, _ = make("bert")
    weights = good["model.safetensors"]

    def changed(**values):
        return dict(good, **{"config.json": json.dumps(dict(config, **values)).encode()})

    refused(s, "no weights", {n: f for n, f in good.items() if n != "model.safetensors"}, "22023", "model.safetensors")
    refused(s, "no tokenizer", {n: f for n, f in good.items() if n != "vocab.txt"}, "22023", "tokenizer.json")
    refused(s, "truncated weights", dict(good, **{"model.safetensors": weights[:-100]}), "22023", "model.safetensors: tensor")
    refused(s, "truncated header", dict(good, **{"model.safetensors": weights[:100]}), "22023", "model.safetensors: the file is cut off")
    refused(s, "weights of a pickle", dict(good, **{"model.safetensors": b"PK\x03\x04" * 100}), "22023", "model.safetensors: the file is cut off")
    refused(s, "a NaN", dict(good, **{"model.safetensors": weights[:-4] + b"\0\0\xc0\x7f"}), "22023", "not finite")
    refused(s, "a wrong shape", changed(intermediate_size=41), "22023", "shape")
    refused(s, "a layer more", changed(num_hidden_layers=3), "22023", "encoder.layer.2.attention.self.query.weight")
    refused(s, "a vocabulary too large", dict(good, **{"vocab.txt": good["vocab.txt"] + b"x%d\n" * 100 % tuple(range(100))}), "22023", "vocab.txt")
    refused(s, "another family", changed(model_type="t5"), "0A000", "model_type")
    refused(s, "a decoder", changed(is_decoder=True), "0A000", "is_decoder")
    refused(s, "relative positions", changed(position_embedding_type="relative_key_query"), "0A000", "position_embedding_type")
    refused(s, "huge sizes", changed(hidden_size=10 ** 12), "22023", "hidden_size")
    refused(s, "nested JSON", dict(good, **{"config.json": b'{"x":' + b"[" * 10 ** 6}), "54000", "config.json")
    refused(s, "no UTF-8", dict(good, **{"config.json": b'{"model_type": "\xff"}'}), "22023", "config.json")
    refused(s, "a broken tokenizer", dict(good, **{"tokenizer.json": b'{"model": {"type": "WordPiece", "vocab": {'}), "22023", "tokenizer.json")
    refused(s, "a module that is not supported", dict(good, **{"modules.json": b'[{"type": "x.Transformer", "path": ""}, {"type": "x.Dense", "path": "2_Dense"}]'}),
            "0A000", "modules.json")
    refused(s, "a name that leads elsewhere", dict(good, **{"../config.json": b"{}"}), "22023", "")
    refused(s, "a graph without its mask", dict(graph()[0], **{"onnx/model.onnx": graph()[0]["onnx/model.onnx"].replace(b"attention_mask", b"attention_musk")}),
            "0A000", "onnx/model.onnx")
    refused(s, "a truncated graph", dict(graph()[0], **{"onnx/model.onnx": graph()[0]["onnx/model.onnx"][:-50]}), "22023", "onnx/model.onnx")


def test_damage(s):
    """Bytes changed, removed, doubled: an ERROR of bad data, or an encoder that runs."""
    r = random.Random(SEED)
    folders = [make(t)[0] for t in ("bert", "distilbert", "mpnet")] + [graph()[0]]
    folders[0]["modules.json"] = b'[{"type": "x.Transformer", "path": ""}, {"type": "x.Pooling", "path": "1_Pooling"}]'
    folders[0][POOLING] = b'{"pooling_mode": "mean"}'
    states, runs = {}, 0
    for i in range(3000 if FULL else 300):
        files = dict(r.choice(folders))
        name = r.choice(sorted(files))
        data = bytearray(files[name])
        # of weights mostly the header
        size = min(len(data), 3000) if r.random() < .8 else len(data)
        for _ in range(r.randint(1, 4)):
            at = r.randrange(size)
            kind = r.random()
            if kind < .5:
                data[at] = r.choice(b'{}[]",:0129-.eE\\u\xff\x80 n') if r.random() < .7 else r.randrange(256)
            elif kind < .7:
                del data[at:at + r.randint(1, 20)]
            elif kind < .9:
                data[at:at] = data[max(0, at - r.randint(1, 30)):at]
            else:
                del data[at:]
            size = min(size, len(data))
            if size == 0:
                break
        files[name] = bytes(data)
        try:
            version = import_files(s, "damaged", files)
            states[None] = states.get(None, 0) + 1
            s.execute("SELECT embed(%s::text[], %s)", (TEXTS, "damaged:%d" % version))
            runs += 1
        except psycopg.Error as e:
            states[e.sqlstate] = states.get(e.sqlstate, 0) + 1
    tap.note("SQLSTATEs of seed %d: %s; %d were run" % (SEED, states, runs))
    tap.ok(set(states) <= {None, "22023", "0A000", "54000", "22003"} and len(states) > 2, "damaged folders are refused as bad data, unsupported or too large")


def main():
    pg = os.environ.get("PG_CONFIG") or relocate(TMP / "pg")
    with Cluster(pg or find_pg_config(), TMP / "cluster", conf={"fsync": "off"}) as c:
        c.psql("CREATE EXTENSION millrace")
        with psycopg.connect(c.dsn(), autocommit=True) as s:
            pid = s.info.backend_pid
            test_families(s)
            test_pooling(s)
            test_graph(s)
            test_overflow(s)
            before = s.execute("SELECT count(*) FROM millrace.models").fetchone()
            test_mistakes(s)
            tap.same(s.execute("SELECT count(*) FROM millrace.models").fetchone(), before, "nothing is left of what was refused")
            test_damage(s)
            tap.same(s.execute("SELECT pg_backend_pid()").fetchone()[0], pid, "the backend lives")
    tap.done()


main()
