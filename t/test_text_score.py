#!/usr/bin/env python3
# timeout: 1800
"""Scores of texts on a real server, with the real MiniLM: against the tables made with the bert-score package, against the package
itself (full check, where it is installed) or the same formula in numpy; batches, sessions, light scores, calibration, errors.

MILLRACE_FULL=1: 1,000 pairs of MedQuAD and QA-Eval instead of 40.
"""
import collections
import gzip
import json
import math
import os
import pathlib
import re
import string
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib import minilm, tap
from lib.cluster import Cluster, find_pg_config, relocate

try:
    import numpy as np
    import psycopg
    import scipy
    import tokenizers
except ImportError as e:
    tap.skip_all(str(e))

TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_text_score")).resolve()
FULL = bool(os.environ.get("MILLRACE_FULL"))
BASELINE = [0.35, 0.3, 0.32]


def connect(c, **how):
    return psycopg.connect(c.dsn(**how), autocommit=True)


def fails(s, sql, state, *args):
    """None if the statement fails with this state, else what it did."""
    try:
        return "no error: %r" % (s.execute(sql, args).fetchall()[:1],)
    except psycopg.Error as e:
        return None if e.sqlstate == state else "%s %s" % (e.sqlstate, e)


def scores(s, candidates, references, **options):
    rows = s.execute('SELECT "precision", recall, f1 FROM millrace.bert_scores(%s::text[], %s::text[], %s) ORDER BY ordinal',
                     (candidates, references, json.dumps(options)), binary=True).fetchall()
    return np.array(rows, np.float32)


def read_tables():
    """Pairs and the package's figures by layer, as shared/data has them; None where they are absent."""
    path = tap.data("qa/bertscore_200.tsv")
    if path is None:
        return None
    rows = [line.split("\t") for line in open(path, encoding="utf8").read().rstrip("\n").split("\n")[1:]]
    layers = collections.defaultdict(dict)
    for line in open(tap.data("qa/bertscore_200_layers.tsv")).read().rstrip("\n").split("\n")[1:]:
        pair, layer, *figures = line.split("\t")
        layers[layer][int(pair) - 1] = [float(x) for x in figures]
    return [r[0] for r in rows], [r[1] for r in rows], np.array([r[2:] for r in rows], float), layers


def pairs_of_the_world():
    """Candidates and references: half of them long answers to one question, half short ones against their reference."""
    n = 1000 if FULL else 40
    medquad, nq = tap.data("qa/medquad_12000.tsv.gz"), tap.data("qa/qa_eval_nq.json")
    if not medquad or not nq:
        return [("sentence %d of a few" % i, "a sentence, number %d" % (i // 2)) for i in range(n)]
    by_focus = collections.defaultdict(list)
    for line in gzip.open(medquad, "rt", encoding="utf8"):
        cells = line.rstrip("\n").split("\t")
        by_focus[cells[1]].append(cells[3])
    out = [(a[0], a[1]) for a in by_focus.values() if len(a) > 1][:n // 2]
    return out + [(r["answer_" + who], r["golden_answer"]) for r in json.load(open(nq)) for who in ("gpt4", "fid")
                  if r["answer_" + who] and r["golden_answer"]][:n - len(out)]


# ---- what it shall be ----

class ByNumpy:
    name = "numpy"

    def __init__(self):
        self.model = minilm.Plain(minilm.folder(), max_tokens=512)
        self.cache = {}

    def of(self, text):
        if text not in self.cache:
            ids = np.array([self.model.tokenizer.encode(text.strip()).ids])
            v = self.model.hidden(ids)[0].astype(np.float64)
            self.cache[text] = ids[0], v / np.sqrt((v * v).sum(1, keepdims=True))
        return self.cache[text]

    def idf(self, references):
        count = collections.Counter(i for r in references for i in set(self.of(r)[0].tolist()))
        return lambda i: math.log((len(references) + 1) / (count[i] + 1))

    def score(self, candidates, references, idf=False, baseline=None):
        weight = self.idf(references) if idf else lambda i: 0. if i in (101, 102) else 1.
        out = []
        for c, r in zip(candidates, references):
            (ci, cv), (ri, rv) = self.of(c), self.of(r)
            if len(ci) == 2 or len(ri) == 2:
                out.append((0, 0, 0))
                continue
            sim = np.maximum(cv @ rv.T, 0)          # padded, as all but the longest of the package's batches are
            cw, rw = np.array([weight(i) for i in ci.tolist()]), np.array([weight(i) for i in ri.tolist()])
            p, r = (sim.max(1) * cw).sum() / cw.sum(), (sim.max(0) * rw).sum() / rw.sum()
            out.append((p, r, 2 * p * r / (p + r)))
        out = np.array(out)
        return (out - baseline) / (1 - np.array(baseline)) if baseline else out


class ByPackage:
    name = "the bert-score package"

    def __init__(self):
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
        import bert_score
        import torch
        torch.set_num_threads(1)
        self.scorer = lambda **how: bert_score.BERTScorer(model_type=str(minilm.folder()), num_layers=6, device="cpu", batch_size=64, **how)

    def score(self, candidates, references, idf=False, baseline=None):
        how = {"idf": True, "idf_sents": references} if idf else {}
        if baseline:
            TMP.mkdir(parents=True, exist_ok=True)
            path = TMP / "baseline.tsv"
            path.write_text("LAYER,P,R,F\n" + "".join("%d,%s\n" % (i, ",".join(map(str, baseline))) for i in range(7)))
            how.update(rescale_with_baseline=True, lang="en", baseline_path=str(path))
        return np.stack([x.numpy() for x in self.scorer(**how).score(candidates, references)], 1)


def oracle():
    if FULL:
        try:
            return ByPackage()
        except ImportError as e:
            tap.note("%s: numpy instead of the package" % e)
    return ByNumpy()


# ---- BERTScore ----

def test_tables(c):
    known = read_tables()
    if known is None:
        tap.ok(True, "no reference tables here # SKIP shared/data/qa is absent")
        return
    candidates, references, last, layers = known
    with connect(c) as s:
        s.execute("CREATE TABLE refs AS SELECT unnest(%s::text[]) AS r", (references,))
        s.execute("SELECT millrace.build_idf('refs', 'SELECT r FROM refs', 'minilm')")
        for layer, of in sorted(layers.items()) if FULL else [(k, layers[k]) for k in ("1", "3", "6idf")]:
            some = range(200) if FULL else range(0, 200, 4)
            got = scores(s, [candidates[i] for i in some], [references[i] for i in some],
                         **({"layer": 6, "idf": "refs"} if layer == "6idf" else {"layer": int(layer)}))
            off = np.abs(got - np.array([of[i] for i in some])).max()
            tap.ok(off <= 1e-4, "layer %s: the table's figures within 1e-4 (%.1e)" % (layer, off))
        got = scores(s, candidates, references)
        tap.ok(np.abs(got - last).max() <= 1e-4, "all 200 pairs by default: the last layer, no IDF, not rescaled")


def test_package(c):
    by = oracle()
    pairs = pairs_of_the_world()
    candidates, references = [p[0] for p in pairs], [p[1] for p in pairs]
    with connect(c) as s:
        s.execute("CREATE TABLE world AS SELECT unnest(%s::text[]) AS r", (references,))
        tap.same(s.execute("SELECT millrace.build_idf('world', 'SELECT r FROM world')").fetchone(), (len(pairs),), "IDF weights of all references")
        for what, options, how in (("plain", {}, {}), ("with IDF", {"idf": "world"}, {"idf": True}), ("rescaled", {"rescale": BASELINE}, {"baseline": BASELINE}),
                                   ("with IDF, rescaled", {"idf": "world", "rescale": BASELINE}, {"idf": True, "baseline": BASELINE})):
            off = np.abs(scores(s, candidates, references, **options) - by.score(candidates, references, **how)).max()
            tap.ok(off <= 1e-4, "%d pairs %s: %s's figures within 1e-4 (%.1e)" % (len(pairs), what, by.name, off))
        several = [candidates[1], references[0], references[2], candidates[0][:200]]
        each = by.score([candidates[0]] * 4, several)
        got = s.execute("SELECT * FROM bert_score(%s, %s::text[])", (candidates[0], several)).fetchone()
        tap.ok(np.abs(np.array(got) - each.max(0)).max() <= 1e-4, "several references: each figure's best")


def test_batches(c):
    pairs = pairs_of_the_world()[:40] + [("", "x"), ("[SEP] [CLS]", "[MASK]"), ("Ünïcödé 漢字", "unicode"), ("same", "same")]
    candidates, references = [p[0] for p in pairs], [p[1] for p in pairs]
    with connect(c) as s, connect(c) as other:
        whole = scores(s, candidates, references)
        for size in (1, 7, 64):
            tap.ok((scores(other, candidates, references, batch_size=size) == whole).all(), "%d pairs at a time, in another session: the same bits" % size)
        tap.ok((scores(s, candidates[::-1], references[::-1])[::-1] == whole).all(), "backwards: the same bits")
        one = np.array([s.execute("SELECT * FROM bert_score(%s, %s)", p, binary=True).fetchone() for p in pairs], np.float32)
        tap.ok((one == whole).all(), "pair by pair: the same bits")
        mirrored = scores(s, references, candidates)
        tap.ok((mirrored[:, 0] == whole[:, 1]).all() and (mirrored[:, 2] == whole[:, 2]).all(), "candidate and reference exchanged: precision and recall are")
        s.execute("CREATE TABLE pairs AS SELECT * FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS u (c, r, i)", (candidates, references))
        s.execute("ALTER TABLE pairs SET (parallel_workers = 2)")
        s.execute("SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2")
        plan = "\n".join(r[0] for r in s.execute("EXPLAIN SELECT i, score_response(c, r) FROM pairs").fetchall())
        rows = sorted(s.execute("SELECT i, score_response(c, r) FROM pairs", binary=True).fetchall())
        tap.ok("Gather" in plan and (np.array([r[1] for r in rows], np.float32) == whole[:, 2]).all(), "in parallel workers: the same bits")


def rows_embedded(s):
    s.execute("SELECT pg_stat_clear_snapshot()")
    return s.execute("SELECT sum(rows) FROM millrace.model_statistics() WHERE name = 'minilm'").fetchone()[0]


def test_once(c):
    """A text that is in many pairs is embedded once."""
    candidates = ["answer number %d" % i for i in range(50)] * 2
    with connect(c) as s:
        s.execute("SELECT embed('x')")
    with connect(c) as watch:
        before = rows_embedded(watch)
        with connect(c) as s:
            scores(s, candidates, ["the reference"] * 100, batch_size=7)
        tap.same(int(rows_embedded(watch) - before), 51, "100 pairs of 51 texts embed 51 texts")
        before = rows_embedded(watch)
        with connect(c) as s:
            s.execute("SELECT score_response('answer ' || i, 'the reference') FROM generate_series(1, 30) i").fetchall()
        tap.same(int(rows_embedded(watch) - before), 31, "so does a query row by row, for what it saw last")


def test_edges(c):
    with connect(c) as s:
        q = lambda sql, *a: s.execute(sql, a).fetchall()
        tap.same(q("SELECT * FROM bert_score('', 'x') UNION ALL SELECT * FROM bert_score('x', E' \\n') UNION ALL SELECT * FROM bert_score('', '')"),
                 [(0, 0, 0)] * 3, "an empty text scores 0")
        tap.same(q("SELECT bert_score(NULL, 'x'), bert_score('x', NULL::text), score_response(NULL, 'x'), bert_score('x', '{}'::text[]), bert_score('x', '{NULL}'::text[])"),
                 [(None,) * 5], "NULL gives NULL, and so does no reference")
        tap.same(q("SELECT bert_score('a b', ARRAY[NULL, 'a b']) = bert_score('a b', 'a b')"), [(True,)], "NULL references do not count")
        tap.same(q("SELECT ordinal, f1 IS NULL, model FROM millrace.bert_scores('{a,NULL,b}', '{a,b,NULL}')"),
                 [(1, False, "minilm:1"), (2, True, "minilm:1"), (3, True, "minilm:1")], "rows keep their place, and the model's version")
        tap.same(q("SELECT * FROM millrace.bert_scores('{}', '{}')") + q("SELECT * FROM millrace.bert_scores(NULL, '{}')"), [], "no pairs: no rows")
        tap.ok(abs(q("SELECT score_response('The same text.', 'The same text.')")[0][0] - 1) < 1e-6, "a text against itself scores 1")
        big = "long words and numbers 12 " * 400000
        tap.ok(0 < q("SELECT score_response(%s, 'numbers and words')", big)[0][0] < 1, "a text of 10 MB is cut to what the model takes")
        tap.ok(q("SELECT rouge_l(%s, 'numbers and words'), token_f1(%s, 'numbers'), exact_match(%s, %s), (millrace.text_stats(%s)).words", big, big, big, big, big)[0][2:] ==
               (True, 2000000), "and the light scores take it whole")
        s.execute("SELECT millrace.import_model('plain', millrace.model_bytes('minilm'))")
        bad = [("SELECT * FROM millrace.bert_scores('{a,b}', '{a}')", "22023"), ("SELECT * FROM millrace.bert_scores('{{a}}', '{a}')", "2202E"),
               ("SELECT * FROM millrace.bert_scores('{a}', '{a}', '{\"layer\": 7}')", "22023"), ("SELECT * FROM millrace.bert_scores('{a}', '{a}', '{\"layers\": 5}')", "22023"),
               ("SELECT * FROM millrace.bert_scores('{a}', '{a}', '{\"idf\": \"nobody\"}')", "42704"), ("SELECT * FROM millrace.bert_scores('{a}', '{a}', '{\"rescale\": true}')", "42704"),
               ("SELECT * FROM millrace.bert_scores('{a}', '{a}', '{\"rescale\": [1, 0, 0]}')", "22023"), ("SELECT * FROM millrace.bert_scores('{a}', '{a}', '{\"model\": \"nobody\"}')", "42704"),
               ("SELECT bert_score('a', 'b', 'nobody')", "42704"), ("SELECT answer_relevance('a', 'b', 'nobody')", "42704"),
               ("SELECT millrace.calibrated_score('a', 'b', 'plain')", "55000"), ("SELECT millrace.build_idf('x', 'SELECT 1')", "42804"),
               ("SELECT millrace.build_idf('x', 'SELECT ''a'' WHERE false')", "22023"), ("SELECT millrace.drop_idf('x')", "42704"),
               ("SELECT * FROM millrace.build_score_baseline('minilm', 'SELECT ''a''')", "22023"),
               ("SELECT * FROM millrace.calibrate_score('minilm', 'SELECT ''a'', ''b'', true')", "22023"),
               ("SELECT * FROM millrace.calibrate_score('minilm', 'SELECT ''a'', true')", "42804"),
               ("SELECT millrace.build_idf('x', 'DELETE FROM millrace.refusal_phrases')", "22023")]
        wrong = [(sql, w) for sql, state in bad for w in [fails(s, sql, state)] if w]
        tap.same(wrong, [], "%d errors have their states" % len(bad))
        s.execute("SET default_transaction_read_only = on")
        tap.same(fails(s, "SELECT millrace.build_idf('x', 'SELECT ''a''')", "25006"), None, "weights are not made in a read-only transaction")
        s.execute("RESET default_transaction_read_only; SET statement_timeout = 200")
        tap.same(fails(s, "SELECT rouge_l((SELECT string_agg(md5(i::text), ' ') FROM generate_series(1, 200000) i), (SELECT string_agg(md5(i::text), ' ') FROM generate_series(200000, 1, -1) i))", "57014"),
                 None, "a long rouge_l() can be canceled")


# ---- light scores ----

def rouge(candidate, reference):
    a, b = (re.sub("[^a-z0-9]+", " ", t.lower()).split() for t in (candidate, reference))
    row = [0] * (len(b) + 1)
    for x in a:
        row = [0] + [0] * len(b) if not b else next_row(row, x, b)
    n = row[-1]
    return 2 * (n / len(a)) * (n / len(b)) / (n / len(a) + n / len(b)) if n else 0.


def next_row(row, x, b):
    out = [0]
    for j, y in enumerate(b):
        out.append(row[j] + 1 if x == y else max(row[j + 1], out[j]))
    return out


def squad(s):
    s = "".join(ch for ch in s.lower() if ch not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", s).split())


def squad_f1(candidate, reference):
    p, g = squad(candidate).split(), squad(reference).split()
    if not p or not g:
        return float(p == g), float(p == g)
    same = sum((collections.Counter(p) & collections.Counter(g)).values())
    return (2 * same / (len(p) + len(g)), same / len(g))


def test_light(c):
    pairs = pairs_of_the_world() + [("", ""), ("", "a"), ("the", ""), ("The A", "an"), ("ΟΔΟΣ Σ ΑΣΑ", "οδος σ ασα"), ("İstanbul K 3", "istanbul k 3"),
                                    ("a–b the–cat", "b cat"), ("x\u00a0y\x1cz", "x y z"), ("don't", "dont"), ("naïve CAFÉ", "naive café"), ("1,000.5", "1000 5")]
    with connect(c) as s:
        rows = [s.execute("SELECT rouge_l(a, b), token_f1(a, b), token_recall(a, b), exact_match(a, b) FROM (SELECT %s, %s) t (a, b)", p).fetchone() for p in pairs]
        off = max(abs(r[0] - rouge(*p)) for r, p in zip(rows, pairs))
        tap.ok(off < 1e-6, "rouge_l() of %d pairs is the table's longest common subsequence (%.1e)" % (len(pairs), off))
        try:
            from rouge_score import rouge_scorer
            scorer = rouge_scorer.RougeScorer(["rougeL"])
            tap.ok(max(abs(r[0] - scorer.score(p[1], p[0])["rougeL"].fmeasure) for r, p in zip(rows, pairs)) < 1e-6, "and the rouge-score package's")
        except ImportError as e:
            tap.note("%s: rouge_l() is not compared with the package" % e)
        off = max(max(abs(r[1] - squad_f1(*p)[0]), abs(r[2] - squad_f1(*p)[1])) for r, p in zip(rows, pairs))
        tap.ok(off < 1e-6, "token_f1() and token_recall() are SQuAD's (%.1e)" % off)
        tap.same([r[3] for r in rows], [squad(a) == squad(b) for a, b in pairs], "exact_match() too")
        a, b = "Who wrote Faust?", "Goethe wrote Faust."
        got = s.execute("SELECT answer_relevance(%s, %s), answer_relevance(NULL, %s)", (a, b, b)).fetchone()
        e = minilm.encode([a, b])[0]
        tap.ok(abs(got[0] - float(e[0] @ e[1])) < 1e-5 and got[1] is None, "answer_relevance() is the cosine of the embeddings")


def test_stats(c):
    with connect(c) as s:
        q = lambda text: s.execute("SELECT * FROM millrace.text_stats(%s)", (text,)).fetchone()
        text = "I'm sorry, but as an “AI” language model I can’t. Why?"
        got = q(text)
        tap.same(got[:6] + got[7:], (len(text), 11, 2, 1.0, 0.0, "en", "i'm sorry but"), "figures of a refusal")
        tap.same(tuple(round(x, 6) for x in q("yes yes yes yes yes")[3:5]), (.2, .666667), "repetition")
        tap.same((q(""), q(None)), ((0, 0, 0, 1, 0, None, 0, None), (None,) * 8), "of nothing")
        texts = {"de": "Das ist ein Text, der nicht von einem Menschen geschrieben wurde.", "fr": "Ceci est un texte qui n'a pas été écrit par une personne.",
                 "es": "Este es un texto que no fue escrito por una persona.", "ru": "Это текст, который не был написан человеком.", "el": "Αυτό είναι ένα κείμενο.",
                 "zh": "这不是人写的文字。", "ja": "これは人が書いた文章ではありません。", "ko": "이것은 사람이 쓴 글이 아닙니다.", "ar": "هذا النص لم يكتب من قبل إنسان في هذا اليوم."}
        tap.same({k: q(v)[5] for k, v in texts.items()}, {k: k for k in texts}, "languages of %d sentences" % len(texts))
        tap.same(q("Wilhelm Conrad Röntgen, 1901")[5] in (None, "de"), True, "names and numbers get no guess but by their letters")
        s.execute("INSERT INTO millrace.refusal_phrases VALUES ('ask my colleague', true), ('I don''t know', false)")
        tap.same((q("Please ASK my colleague!")[7], q("I don't know.")[7]), ("ask my colleague", None), "phrases of one's own, and one switched off")
        s.execute("DELETE FROM millrace.refusal_phrases")
        tap.ok("as an ai" in s.execute("SELECT millrace.shipped_refusal_phrases()").fetchone()[0], "those that are shipped can be looked at")


# ---- calibration ----

def test_calibration(c):
    rng = np.random.default_rng(5)
    words = "alpha beta gamma delta river mountain house tree blue green".split()
    examples = []
    for i in range(120):
        ref = " ".join(rng.choice(words, 4))
        good = bool(rng.random() < .5)
        examples.append(("It is " + ref if good and rng.random() < .9 else " ".join(rng.choice(words, 5)), ref, good))
    shipped = json.loads((pathlib.Path(__file__).resolve().parents[1] / "models/minilm/score.json").read_text())["calibration"]
    with connect(c) as s:
        rows = s.execute("SELECT millrace.calibrated_score(a, b), score_response(a, b) FROM (VALUES ('It is blue', 'blue'), ('x', 'y')) t (a, b)").fetchall()
        tap.ok(all(abs(x - np.interp(y, shipped["raw"], shipped["calibrated"])) < 1e-6 for x, y in rows), "minilm comes with a scale, models/minilm/score.json")
        s.execute("CREATE TABLE judged (a text, b text, ok boolean)")
        with s.cursor().copy("COPY judged FROM STDIN") as copy:
            for row in examples + [("x", None, True)]:
                copy.write_row(row)
        layer, t, n, good, accepts, rejects, auc = s.execute("SELECT * FROM millrace.calibrate_score('minilm', 'SELECT a, b, ok FROM judged')").fetchone()
        f1 = scores(s, [e[0] for e in examples], [e[1] for e in examples])[:, 2].astype(float)
        ok = np.array([e[2] for e in examples])
        tap.same((layer, n, good, accepts, rejects), (6, 120, int(ok.sum()), int((f1[~ok] > t).sum()), int((f1[ok] <= t).sum())), "calibrate_score() tells what its threshold does")
        wins = (f1[ok][:, None] > f1[~ok]).mean() + .5 * (f1[ok][:, None] == f1[~ok]).mean()
        best = max((f1[ok] > x).mean() - (f1[~ok] > x).mean() for x in f1)
        tap.ok(abs(auc - wins) < 1e-9 and abs((f1[ok] > t).mean() - (f1[~ok] > t).mean() - best) < 1e-9, "AUC, and the greatest of Youden's J")
        rows = s.execute("SELECT millrace.calibrated_score(a, b), score_response(a, b) FROM judged WHERE b IS NOT NULL").fetchall()
        tap.ok(all((x > .75) == (y > t) for x, y in rows) and all((a[0] <= b[0]) == (a[1] <= b[1]) for a, b in zip(rows, rows[1:]) if a[1] != b[1]),
               "on the calibrated scale 0.75 is the threshold, and the order stays")
        t2, accepts, rejects = s.execute("SELECT threshold, false_accepts, false_rejects FROM millrace.calibrate_score('minilm', 'SELECT a, b, ok FROM judged', '{\"criterion\": \"equal_rates\"}')").fetchone()
        tap.ok(abs(accepts / (~ok).sum() - rejects / ok.sum()) <= min(abs((f1[~ok] > x).mean() - (f1[ok] <= x).mean()) for x in f1) + 1e-9, "equal_rates: both shares as near as can be")
        s.execute("SELECT millrace.build_score_baseline('minilm', 'SELECT a FROM judged', '{\"pairs\": 50, \"seed\": 3}')")
        b = s.execute('SELECT "precision", recall, f1, pairs FROM millrace.score_baselines').fetchone()
        tap.same(b[3], 50, "a baseline of 50 pairs")
        tap.same(fails(s, "SELECT millrace.build_score_baseline('minilm', 'SELECT a FROM judged', '{\"pairs\": 50}')", "42710"), None, "is not replaced unasked")
        again = s.execute("SELECT \"precision\", recall, f1, pairs FROM millrace.build_score_baseline('minilm', 'SELECT a FROM judged', '{\"pairs\": 50, \"seed\": 3, \"replace\": true}')").fetchone()
        tap.same(again, b, "the same seed gives the same baseline")
        plain, scaled = scores(s, ["It is blue"], ["blue"])[0], scores(s, ["It is blue"], ["blue"], rescale=True)[0]
        tap.ok(np.abs(scaled - (plain - b[:3]) / (1 - np.array(b[:3]))).max() < 1e-6, "rescaled by the stored baseline")
        s.execute("SELECT millrace.import_model('spec', millrace.model_bytes('minilm'), %s)",
                  (json.dumps({"score": {"layer": 4, "rescale": [.1, .2, .3], "calibration": {"raw": [0, .5, 1], "calibrated": [0, .75, 1]}}}),))
        want = scores(s, ["It is blue"], ["blue"], layer=4)[0]
        got = s.execute("SELECT s.*, millrace.calibrated_score('It is blue', 'blue', 'spec') FROM bert_score('It is blue', 'blue', 'spec') s").fetchone()
        scale = .75 * want[2] / .5 if want[2] < .5 else .75 + .25 * (want[2] - .5) / .5
        tap.ok(np.abs(np.array(got[:3]) - (want - [.1, .2, .3]) / [.9, .8, .7]).max() < 1e-6 and abs(got[3] - scale) < 1e-6, "layer, baseline and scale of a model's specification")


def test_rights(c):
    with connect(c) as s:
        s.execute("CREATE ROLE reader; CREATE ROLE stranger; GRANT millrace_user TO reader")
        s.execute("SET ROLE reader")
        tap.ok(s.execute("SELECT score_response('a', 'a'), millrace.calibrated_score('a', 'a'), (millrace.text_stats('a')).words").fetchone()[2] == 1, "millrace_user may score")
        tap.same(fails(s, "SELECT millrace.build_idf('x', 'SELECT ''a''')", "42501"), None, "but not make weights")
        s.execute("SET ROLE stranger")
        tap.same(fails(s, "SELECT score_response('a', 'a')", "42501"), None, "a stranger may not")
        tap.same(s.execute("SELECT rouge_l('a', 'a'), token_f1('a', 'b')").fetchone(), (1, 0), "but for the light scores")
        s.execute("RESET ROLE")
        tap.same(s.execute("SELECT count(*) FROM pg_extension, unnest(extconfig) t WHERE extname = 'millrace' AND t::regclass::text ~ 'score_|refusal'").fetchone(), (4,),
                 "what is stored is in a dump")


def main():
    minilm.folder()
    pg = os.environ.get("PG_CONFIG") or relocate(TMP / "pg")
    with Cluster(pg or find_pg_config(), TMP / "cluster", conf={"shared_preload_libraries": "millrace", "fsync": "off"}) as c:
        c.psql("CREATE EXTENSION millrace")
        minilm.install(c)
        for name in sys.argv[1:] or ("tables", "package", "batches", "once", "edges", "light", "stats", "calibration", "rights"):
            globals()["test_" + name](c)
    tap.done()


main()
