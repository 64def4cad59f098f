#!/usr/bin/env python3
"""How well scores tell right answers from wrong ones: the tables of docs/score.md, and models/minilm/score.json.

    models/minilm/calibrate.py [--questions N] [--json models/minilm/score.json]

Connects as libpq does (PGHOST, PGDATABASE …) to a database with the extension and the model minilm (tools/models), as a role that
may make models; works in a schema of its own, score_study, which it drops at the end.  Data: qa/qa_eval_nq.json (QA-Eval, Apache-2.0:
3,610 questions, five models' answers, people's judgement), of which improper questions and missing answers are left out, and
MedQuAD and SST-2 for the baseline.  An hour of one core, or as much less as questions are fewer.
"""
import argparse
import gzip
import json
import os
import pathlib

import psycopg

DATA = pathlib.Path(os.environ.get("MILLRACE_DATA", pathlib.Path(__file__).resolve().parents[3] / "shared/data"))
EXAMPLES = "SELECT response, reference, correct FROM score_study.examples"
LIGHT = ("rouge_l", "token_f1", "token_recall", "exact_match", "answer_relevance")
BERT = ("bert_precision", "bert_recall", "bert_f1")


def load(c, questions):
    c.execute("DROP SCHEMA IF EXISTS score_study CASCADE")
    c.execute("CREATE SCHEMA score_study")
    c.execute("CREATE TABLE score_study.examples (id int, who text, question text, response text, reference text, correct boolean)")
    c.execute("CREATE TABLE score_study.texts (content text)")
    with c.cursor().copy("COPY score_study.examples FROM STDIN") as copy:
        for i, r in enumerate(json.load(open(DATA / "qa/qa_eval_nq.json"))[:questions]):
            for who in ("fid", "gpt35", "chatgpt", "gpt4", "newbing"):
                if not r["improper"] and r["answer_" + who] and r["golden_answer"] and r["judge_" + who] is not None:
                    copy.write_row((i, who, r["question"], r["answer_" + who], r["golden_answer"], r["judge_" + who]))
    medquad = [line.split("\t")[3] for line in gzip.open(DATA / "qa/medquad_12000.tsv.gz", "rt").read().split("\n")[1:] if line.count("\t") == 3]
    sst = [line.split("\t")[1] for line in open(DATA / "sst2/train.tsv").read().split("\n") if line.count("\t") == 1]
    with c.cursor().copy("COPY score_study.texts FROM STDIN") as copy:
        for text in [t.split(". ")[0] for t in medquad] + sst:
            if len(text) >= 40:
                copy.write_row((text,))


def table(title, head, rows):
    print("\n" + title + "\n\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(str(x) for x in row) + " |")


def calibrate(c, layer, criterion):
    return c.execute("SELECT threshold, examples, correct, false_accepts, false_rejects, auc FROM millrace.calibrate_score('minilm', %s, %s)",
                     (EXAMPLES, json.dumps({"layer": layer, "criterion": criterion}))).fetchone()


def row(t, layer, criterion, base):
    return (layer, criterion, "%.4f" % t[5], "%.4f" % t[0], "%.4f" % base, "%.4f" % ((t[0] - base) / (1 - base)),
            "%d (%.1f %%)" % (t[3], 100 * t[3] / (t[1] - t[2])), "%d (%.1f %%)" % (t[4], 100 * t[4] / t[2]))


def layers(c):
    """Threshold and errors of each layer, plain and rescaled; the layer of the greatest AUC, by both criteria."""
    rows, best, thresholds = [], None, {}
    for layer in range(1, 7):
        base = c.execute("SELECT f1 FROM millrace.build_score_baseline('minilm', 'SELECT content FROM score_study.texts', %s)",
                         (json.dumps({"layer": layer, "pairs": 2000, "replace": True}),)).fetchone()[0]
        t = calibrate(c, layer, "youden")
        rows.append(row(t, layer, "youden", base))
        print("#", rows[-1], flush=True)
        thresholds[layer] = t[0]
        if best is None or t[5] > best[0]:
            best = (t[5], layer, t[0], base)
    rows.append(row(calibrate(c, best[1], "equal_rates"), best[1], "equal_rates", best[3]))
    table("F1 of minilm, %d answers, %d of them right" % (t[1], t[2]),
          ("layer", "criterion", "AUC", "threshold", "baseline", "threshold, rescaled", "false accepts", "false rejects"), rows)
    return best, thresholds


def light(c, best):
    """The light scores alone and combined; logistic regression on half of the questions, measured on the other half."""
    columns = ", ".join("%s(%s)%s AS %s" % (f, "question, response" if f == "answer_relevance" else "response, reference",
                                            "::int::real" if f == "exact_match" else "", f) for f in LIGHT)
    c.execute("CREATE TABLE score_study.light AS SELECT e.*, %s, row_number() OVER () AS n FROM score_study.examples e" % columns)
    c.execute("CREATE TABLE score_study.bert AS SELECT ordinal AS n, s.precision AS bert_precision, s.recall AS bert_recall, s.f1 AS bert_f1 FROM "
              "(SELECT array_agg(response ORDER BY n) AS a, array_agg(reference ORDER BY n) AS b FROM score_study.light) x, "
              "LATERAL millrace.bert_scores(a, b, '{\"layer\": %d}') s" % best[1])
    c.execute("CREATE TABLE score_study.rows AS SELECT *, id % 2 = 0 AS train FROM score_study.light JOIN score_study.bert USING (n)")
    rows = [(f, "", "%.4f" % c.execute("SELECT millrace.roc_auc(correct, %s) FROM score_study.rows WHERE NOT train" % f).fetchone()[0])
            for f in LIGHT + BERT]
    for what, features in (("light scores", LIGHT), ("light scores without an encoder", LIGHT[:4]), ("BERTScore's three figures", BERT), ("all of them", LIGHT + BERT)):
        v = c.execute("SELECT millrace.train_model('score_study', 'logistic_regression', %s, 'correct')",
                      ("SELECT %s, correct::text AS correct FROM score_study.rows WHERE train" % ", ".join(features),)).fetchone()[0]
        auc = c.execute("SELECT millrace.roc_auc(correct, p.probability) FROM score_study.rows, "
                        "LATERAL class_probabilities(ARRAY[%s]::real[], 'score_study:%d') p WHERE NOT train AND p.label = 'true'" % (", ".join(features), v)).fetchone()[0]
        rows.append((what, "logistic regression", "%.4f" % auc))
    table("The other half of the questions", ("score", "combined by", "AUC"), rows)
    c.execute("SELECT millrace.drop_model('score_study')")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--questions", type=int, default=3610)
    p.add_argument("--json", type=pathlib.Path)
    a = p.parse_args()
    with psycopg.connect(autocommit=True) as c:
        load(c, a.questions)
        best, thresholds = layers(c)
        light(c, best)
        if a.json:               # of the last layer: what bert_score() uses unless told otherwise
            a.json.write_text(json.dumps({"calibration": {"raw": [0, round(thresholds[6], 4), 1], "calibrated": [0, 0.75, 1]}}) + "\n")
        c.execute("DROP SCHEMA score_study CASCADE")


if __name__ == "__main__":
    main()
