#!/usr/bin/env python3
"""JPEG bytes to boxes, side by side, one thread each: detect() and what people write in Python.

  peer       cv2.imdecode, Ultralytics' letterbox (cv2.resize), ONNX Runtime, suppression in NumPy
  float32    SELECT * FROM detect(bytes) of the same ONNX file, the bytes sent each time, the cache empty
  bfloat16   the same, the model imported with {"precision": "bfloat16"}

A private server of this checkout's installation ($PG_CONFIG) is started and pinned with this process, so `taskset -c 1
bench/detect.py` gives each side the same core.  Photo by photo and round by round all take turns; CPU time counts (the
client's and the session's together), the best round of each photo, and the median of the rounds beside it.
Needs: pip install numpy onnxruntime opencv-python-headless psycopg.  Options: --rounds 5, --parts (where the peer's time goes).
"""
import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"
ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "t"))
import cv2
import numpy as np
import onnxruntime
import psycopg
from lib.cluster import Cluster, find_pg_config
from lib.tap import data

cv2.setNumThreads(1)
CONFIDENCE, IOU = .25, .45


class Peer:
    def __init__(self, model):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.net = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.input = self.net.get_inputs()[0].name
        self.parts = [0, 0, 0]

    def detect(self, content):
        t = [time.process_time()]
        im = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        h, w = im.shape[:2]
        gain = min(640 / h, 640 / w)
        inner = round(w * gain), round(h * gain)
        dx, dy = (640 - inner[0]) / 2, (640 - inner[1]) / 2
        if inner != (w, h):
            im = cv2.resize(im, inner, interpolation=cv2.INTER_LINEAR)
        left, top = round(dx - .1), round(dy - .1)
        im = cv2.copyMakeBorder(im, top, round(dy + .1), left, round(dx + .1), cv2.BORDER_CONSTANT, value=(114, 114, 114))
        x = np.ascontiguousarray(im[:, :, ::-1].transpose(2, 0, 1))[None].astype(np.float32)
        x /= 255
        t.append(time.process_time())
        out = self.net.run(None, {self.input: x})[0][0]
        t.append(time.process_time())
        best = out[4:].max(0)
        p = out[:, best > CONFIDENCE]
        scores, classes = p[4:].max(0), p[4:].argmax(0)
        boxes = np.stack([p[0] - p[2] / 2, p[1] - p[3] / 2, p[0] + p[2] / 2, p[1] + p[3] / 2], 1)
        order, kept = np.argsort(-scores, kind="stable"), []
        moved = boxes + classes[:, None] * np.float32(7680)
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        while len(order):
            i, rest = order[0], order[1:]
            kept.append(i)
            both = (np.maximum(np.minimum(moved[i, 2], moved[rest, 2]) - np.maximum(moved[i, 0], moved[rest, 0]), 0) *
                    np.maximum(np.minimum(moved[i, 3], moved[rest, 3]) - np.maximum(moved[i, 1], moved[rest, 1]), 0))
            order = rest[both / (area[i] + area[rest] - both) <= IOU]
        boxes = (boxes[kept] - [left, top, left, top]) / gain
        found = np.clip(boxes, 0, [w, h, w, h]), scores[kept], classes[kept]
        t.append(time.process_time())
        self.parts = [p + b - a for p, a, b in zip(self.parts, t, t[1:])]
        return found


class Ours:
    def __init__(self, cluster, model):
        self.db = psycopg.connect(cluster.dsn(), autocommit=True)
        self.model = model
        self.schedstat = f"/proc/{self.db.info.backend_pid}/schedstat"

    def cpu(self):
        with open(self.schedstat) as f:
            return int(f.read().split()[0]) / 1e9

    def detect(self, content):
        return self.db.execute("SELECT class_id, confidence, x1, y1, x2, y2 FROM detect(%b, %s)", (content, self.model), binary=True).fetchall()

    def forget(self):
        self.db.execute("SELECT millrace.clear_detection_cache()")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--parts", action="store_true")
    args = arguments.parse_args()
    model = data("models/yolov8n_dequant_fp32.onnx")
    photos = [p.read_bytes() for p in sorted(pathlib.Path(data("photos")).glob("*.jpg"))]
    folder = tempfile.mkdtemp(prefix="mr_bench_detect", dir="/tmp")
    with Cluster(os.environ.get("PG_CONFIG") or find_pg_config(), folder + "/c") as c:
        c.psql("CREATE EXTENSION millrace")
        with psycopg.connect(c.dsn(), autocommit=True) as db:
            for name, spec in (("float32", "{}"), ("bfloat16", '{"precision": "bfloat16"}')):
                db.execute("SELECT millrace.import_model(%s, %s, %s)", (name, pathlib.Path(model).read_bytes(), spec))
        peer = Peer(model)
        sides = {"peer": peer, "float32": Ours(c, "float32"), "bfloat16": Ours(c, "bfloat16")}
        cpu = {name: [[] for _ in photos] for name in sides}
        for round_ in range(-1, args.rounds):
            for i, content in enumerate(photos):
                for name, side in sides.items():
                    if side is not peer:
                        side.forget()
                    there = 0 if side is peer else side.cpu()
                    here = time.process_time()
                    side.detect(content)
                    used = time.process_time() - here + (0 if side is peer else side.cpu() - there)
                    if round_ >= 0:
                        cpu[name][i].append(used)
            if round_ < 0:
                peer.parts = [0, 0, 0]
        differ = max(abs(a[1] - b) for content in photos for a, b in zip(sides["float32"].detect(content), peer.detect(content)[1]))
        best = {name: sum(map(min, times)) / len(photos) for name, times in cpu.items()}
        middle = {name: sum(map(statistics.median, times)) / len(photos) for name, times in cpu.items()}
        print(f"{len(photos)} photos, {args.rounds} rounds, ms of CPU a photo; scores differ by at most {differ:.2g}")
        for name in sides:
            print(f"{name:9} {1000 * best[name]:7.2f} best  x {best['peer'] / best[name]:.2f}"
                  f"   {1000 * middle[name]:7.2f} median  x {middle['peer'] / middle[name]:.2f}")
        if args.parts:
            n = (args.rounds + 1) * len(photos)
            print("peer: decode, letterbox %.2f, network %.2f, boxes %.2f" % tuple(1000 * p / n for p in peer.parts))
        for side in list(sides.values())[1:]:
            side.db.close()
    os.rmdir(folder)


if __name__ == "__main__":
    main()
