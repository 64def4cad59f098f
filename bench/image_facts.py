#!/usr/bin/env python3
"""millrace.image_facts() against the same figures in Python, one after the other in one run, CPU time of one thread.

The peer decodes with Pillow and computes as cleanvision and imagehash do: phash of the eight positions, luma's histogram and its
figures, colourfulness, OpenCV's Laplacian of a copy of 240 pixels, a thumbnail of 8 x 8, SHA-256 of the pixels.  What has no
peer, empty corners and copied tiles, only Millrace does.

    pip install -r t/requirements.txt -r bench/requirements.txt
"""
import glob
import hashlib
import io
import os
import pathlib
import sys
import tarfile
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "t"))
from lib.cluster import Cluster, find_pg_config
from lib.tap import data

import cv2
import imagehash
import numpy as np
import psycopg
from PIL import Image, ImageOps

ROUNDS = 5
cv2.setNumThreads(1)


def peer(content):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    pixels = np.asarray(image)
    digest = hashlib.sha256(pixels.tobytes()).digest()
    grey = image.convert("L")
    luma = np.asarray(grey)
    share = np.bincount(luma.ravel(), minlength=256) / luma.size
    p = share[share > 0]
    mean = (share * np.arange(256)).sum()
    r, g, b = (pixels[..., i].astype(np.float32) for i in range(3))
    rg, yb = r - g, (r + g) / 2 - b
    colour = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    small = image.copy()
    small.thumbnail((240, 240))
    sharp = cv2.Laplacian(np.asarray(small.convert("L")), cv2.CV_64F).var()
    square = small.resize((32, 32), Image.Resampling.LANCZOS)
    hashes = [imagehash.phash(square if t is None else square.transpose(t)) for t in (None, *Image.Transpose)]
    thumb = np.asarray(small.resize((8, 8), Image.Resampling.BOX)).astype(np.float32)
    thumb -= thumb.mean((0, 1))
    return (digest, mean, np.sqrt((share * (np.arange(256) - mean) ** 2).sum()), -(p * np.log2(p)).sum(), share[:82].sum(), share[243:].sum(),
            colour, sharp, hashes, thumb / np.sqrt((thumb ** 2).sum()))


def race(db, name, images):
    """ms an image of each, the best of ROUNDS."""
    pid = db.info.backend_pid
    db.execute("CREATE TEMP TABLE images (content bytea)")
    with db.cursor() as cursor:
        cursor.executemany("INSERT INTO images VALUES (%s)", [(i,) for i in images])

    def sql(query):
        stat = pathlib.Path(f"/proc/{pid}/schedstat")
        before = int(stat.read_text().split()[0])
        db.execute(query)
        return (int(stat.read_text().split()[0]) - before) / 1e9

    ways = {"decode alone": lambda: sql("SELECT count(image_crop(content, 0, 0, 1, 1)) FROM images"),
            "image_facts": lambda: sql("SELECT count(millrace.image_facts(content)) FROM images")}

    def python():
        before = time.process_time()
        for i in images:
            peer(i)
        return time.process_time() - before

    ways["Python"] = python
    best = {}
    for _ in range(ROUNDS):
        for way, run in ways.items():
            best[way] = min(best.get(way, 1e9), run())
    print(f"{name}, {len(images)} images")
    for way, seconds in best.items():
        print(f"  {way:14s} {seconds / len(images) * 1e3:8.3f} ms   {seconds / best['image_facts']:6.2f} x image_facts")
    db.execute("DROP TABLE images")


with tempfile.TemporaryDirectory() as folder, Cluster(find_pg_config(), pathlib.Path(folder) / "pg") as cluster:
    cluster.psql("CREATE EXTENSION millrace")
    with psycopg.connect(cluster.dsn(), autocommit=True) as db:
        race(db, "photos", [open(f, "rb").read() for f in sorted(glob.glob(data("photos") + "/*.jpg"))])
        with tarfile.open(data("cifar10_jpeg.tar.gz")) as tar:
            members = [m for m in tar if m.isfile() and "/test/" in m.name][:1000]
            race(db, "CIFAR-10", [tar.extractfile(m).read() for m in members])
