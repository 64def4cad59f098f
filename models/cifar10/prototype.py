#!/usr/bin/env python3
"""Which classifiers on the PCA'd features? A scikit-learn prototype of what Millrace trains inside the database.

Reads what `export.py --features` left in --work. The column `hold-out` (training images that neither the backbone nor
the classifiers saw) is the one to choose by; `test` is for the card.
"""
import argparse
import glob
import json
import os
import time

import numpy as np
from PIL import Image, ImageOps
from scipy.stats import binomtest
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from export import outputs, session
from model import LABELS
from train import holdout_split, load


def candidates(seed=0):
    forest = dict(random_state=seed, n_jobs=2)
    yield "logistic C=1", LogisticRegression(max_iter=1000)
    yield "logistic C=0.01", LogisticRegression(max_iter=1000, C=0.01)
    for trees, leaf in ((30, 5), (100, 1), (100, 5), (100, 20), (300, 5)):
        yield f"forest {trees} leaf {leaf}", RandomForestClassifier(n_estimators=trees, min_samples_leaf=leaf, **forest)
    yield "extra 100 leaf 5", ExtraTreesClassifier(n_estimators=100, min_samples_leaf=5, **forest)


def mcnemar(a, b):
    """Images only a got right, only b got right, exact two-sided p."""
    n, m = int((a & ~b).sum()), int((b & ~a).sum())
    return n, m, binomtest(n, n + m).pvalue if n + m else 1.0


def cover(path, side=32):
    return np.asarray(ImageOps.fit(Image.open(path).convert("RGB"), (side, side), Image.Resampling.BILINEAR))


def nodes(model):
    return sum(t.tree_.node_count for t in getattr(model, "estimators_", []))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    ap.add_argument("--data", default="../shared/data")
    ap.add_argument("--work", required=True, help="the folder given to train.py and export.py")
    ap.add_argument("--holdout", type=int, default=2000, help="as given to train.py")
    ap.add_argument("--photos", nargs="*", help="photos outside the classes; default: DATA/photos/*.jpg")
    ap.add_argument("--quick", action="store_true", help="only 20 components, no flipped training images")
    a = ap.parse_args()

    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "backbone.json")) as f:
        spec = json.load(f)
    net = session(os.path.join(here, "backbone.onnx"))
    part = {}
    for s in ("train", "test"):
        part[s] = [np.load(os.path.join(a.work, f"{k}_{s}.npy")) for k in ("features", "logits", "labels")]
    keep, held = holdout_split(len(part["train"][2]), a.holdout)
    features, _, y = part["train"]
    tests, test_logits, test_y = part["test"]
    print(f"network itself: train {(part['train'][1].argmax(1) == y)[keep].mean():.4f}, "
          f"hold-out {(part['train'][1].argmax(1) == y)[held].mean():.4f}, test {(test_logits.argmax(1) == test_y).mean():.4f}")

    archive = os.path.join(a.data, "cifar10_jpeg.tar.gz")
    flipped = None if a.quick else outputs(net, load(archive, a.work, "train")[0][keep][:, :, ::-1], spec)[0]
    photos = a.photos or sorted(glob.glob(os.path.join(a.data, "photos", "*.jpg")))
    seen = outputs(net, np.stack([cover(p) for p in photos]), spec)[0] if photos else np.empty((0, features.shape[1]))

    right, models = {}, {}
    for size in (20,) if a.quick else (10, 50, 20):
        pca = PCA(size, svd_solver="full").fit(features[keep])
        train, held_x, test = (pca.transform(f) for f in (features[keep], features[held], tests))
        print(f"\nPCA {size}: {pca.explained_variance_ratio_.sum():.4f} of the variance")
        print(f"{'classifier':24}{'hold-out':>9}{'test':>8}{'mean conf':>10}{'us/row':>8}{'fit s':>7}{'nodes':>9}")
        for name, model in candidates():
            if size != 20 and name not in ("logistic C=1", "forest 100 leaf 5"):
                continue
            began = time.time()
            model.fit(train, y[keep])
            fit = time.time() - began
            if hasattr(model, "n_jobs"):
                model.n_jobs = 1
            began = time.time()
            p = model.predict_proba(test)
            us = (time.time() - began) / len(test) * 1e6
            ok = p.argmax(1) == test_y
            print(f"{name:24}{(model.predict(held_x) == y[held]).mean():9.4f}{ok.mean():8.4f}{p.max(1).mean():10.3f}"
                  f"{us:8.1f}{fit:7.1f}{nodes(model):9d}", flush=True)
            if size == 20:
                right[name], models[name] = ok, model
        if size == 20:
            both = None
            if flipped is not None:
                both = np.concatenate([train, pca.transform(flipped)]), np.concatenate([y[keep], y[keep]])
            for name, model, rows in (
                    ("logistic, with flips", LogisticRegression(max_iter=1000), both),
                    ("forest 100/5, with flips", RandomForestClassifier(100, min_samples_leaf=5, random_state=0, n_jobs=2), both),
                    ("logistic, hold-out only", LogisticRegression(max_iter=1000), (held_x, y[held])),
                    ("forest, hold-out only", RandomForestClassifier(100, random_state=0), (held_x, y[held]))):
                if rows is None:
                    continue
                model.fit(*rows)
                chosen = "" if "only" in name else f"{(model.predict(held_x) == y[held]).mean():.4f}"
                right[name] = model.predict(test) == test_y
                print(f"{name:24}{chosen:>9}{right[name].mean():8.4f}{model.predict_proba(test).max(1).mean():10.3f}")
            if len(seen):
                print("\nphotos: label and confidence")
                for name in ("logistic C=1", "logistic C=0.01", "forest 100 leaf 1", "forest 100 leaf 5"):
                    p = models[name].predict_proba(pca.transform(seen))
                    print(f"{name}: " + ", ".join(f"{os.path.basename(f)} {LABELS[q.argmax()]} {q.max():.2f}"
                                                  for f, q in zip(photos, p)))

    print("\nMcNemar on test: only the first right, only the second right, exact p")
    for one, two in (("logistic C=1", "logistic C=0.01"), ("logistic C=1", "forest 30 leaf 5"),
                     ("logistic C=1", "forest 100 leaf 5"), ("logistic C=1", "forest 300 leaf 5"),
                     ("forest 30 leaf 5", "forest 300 leaf 5")):
        print(f"{one} | {two}: %d, %d, p = %.3g" % mcnemar(right[one], right[two]))

    pairs = os.path.join(a.data, "duplicates", "cifar10_pairs.tsv")
    if os.path.exists(pairs):
        with open(pairs) as f:
            rows = [line.rstrip("\n").split("\t") for line in f][1:]
        # name order within a class is the order of the rows
        first = {c: int(np.searchsorted(test_y, i)) for i, c in enumerate(LABELS)}
        twins = {first[n.split("/")[0]] + int(n.split("/")[1][:4]) for n in (r[3] for r in rows if float(r[5]) > 0.9)}
        twins = np.array(sorted(t for t in twins if t < len(test_y)))
        left = np.setdiff1d(np.arange(len(test_y)), twins)
        print(f"\nwithout the {len(twins)} test images that have a near-duplicate in training: "
              + ", ".join(f"{n} {right[n][left].mean():.4f}" for n in ("logistic C=1", "forest 100 leaf 5")))


if __name__ == "__main__":
    main()
