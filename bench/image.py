#!/usr/bin/env python3
"""JPEG bytes to 224x224 RGB (and to planes of floats), side by side.

  millrace   unit/bin/img_tool: bytes to 3x224x224 floats, antialiased
  turbojpeg  PyTurboJPEG scaled decode, then OpenCV's linear resize (bytes only)
  opencv     cv2.imdecode, then resize
  pillow     draft, then resize (BILINEAR)

All run on one thread, interleaved photo by photo and round by round in one
process tree, so that a busy machine slows all alike; the best round of each
counts.  Needs: pip install numpy pillow opencv-python-headless 'PyTurboJPEG<2'
(version 2 wants libjpeg-turbo 3).  Also 32x32 CIFAR-10 JPEGs from memory.
"""
import glob
import io
import os
import platform
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOOL = os.path.join(ROOT, "unit/bin/img_tool")
DATA = os.environ.get("MILLRACE_DATA", os.path.join(ROOT, "../shared/data"))
ROUNDS, SIZE = 9, 224

import numpy as np
from PIL import Image

peers = {}


def pillow(data, size):
    im = Image.open(io.BytesIO(data))
    im.draft("RGB", (size, size))
    return im.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)


peers["pillow"] = pillow
try:
    import cv2
    cv2.setNumThreads(1)

    def opencv(data, size):
        return cv2.resize(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), (size, size))

    peers["opencv"] = opencv
    from turbojpeg import TurboJPEG
    turbo = TurboJPEG()
    # as a user would choose: the smallest factor that still covers the target
    factors = sorted((f for f in turbo.scaling_factors if f[0] <= f[1]), key=lambda f: f[0] / f[1])

    def turbojpeg(data, size):
        w, h = turbo.decode_header(data)[:2]
        fits = [f for f in factors if w * f[0] / f[1] >= size and h * f[0] / f[1] >= size]
        return cv2.resize(turbo.decode(data, scaling_factor=fits[0] if fits else None), (size, size))

    def turbojpeg_pow2(data, size):
        """The same, restricted to the factors with vector code, as millrace does."""
        w, h = turbo.decode_header(data)[:2]
        fits = [f for f in ((1, 8), (1, 4), (1, 2)) if w * f[0] / f[1] >= size and h * f[0] / f[1] >= size]
        return cv2.resize(turbo.decode(data, scaling_factor=fits[0] if fits else None), (size, size))

    peers["turbojpeg"] = turbojpeg
    peers["turbojpeg 2^n"] = turbojpeg_pow2
except Exception as e:
    print(f"# OpenCV or PyTurboJPEG missing ({e})", file=sys.stderr)

tool = subprocess.Popen([TOOL], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def millrace(path, size, n):
    tool.stdin.write(f"time {size} {size} {n} {path}\n")
    tool.stdin.flush()
    answer = tool.stdout.readline()
    if answer.startswith("error"):
        sys.exit(path + ": " + answer)
    return float(answer) / n


def race(paths, size, n):
    """Seconds of each peer: mean over the files of the best of ROUNDS."""
    best = {}
    for path in paths:
        data = open(path, "rb").read()
        for _ in range(ROUNDS):
            for name in ["millrace", *peers]:
                if name == "millrace":
                    t = millrace(path, size, n)
                else:
                    start = time.perf_counter()
                    for _ in range(n):
                        peers[name](data, size)
                    t = (time.perf_counter() - start) / n
                best[name, path] = min(t, best.get((name, path), 9e9))
    return {name: float(np.mean([best[name, p] for p in paths])) for name in ["millrace", *peers]}


def report(title, times, unit, scale):
    print(f"\n{title}")
    for name, t in times.items():
        print(f"  {name:14s} {t * scale:9.3f} {unit}   {t / times['millrace']:6.2f} x millrace")


cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
print(f"{time.strftime('%Y-%m-%d')}, {cpu}, one thread")
photos = sorted(glob.glob(os.path.join(DATA, "photos", "*.jpg")))
report(f"{len(photos)} photos to {SIZE}x{SIZE}, ms each", race(photos, SIZE, 3), "ms", 1e3)
archive = os.path.join(DATA, "cifar10_jpeg.tar.gz")
if os.path.exists(archive):
    with tempfile.TemporaryDirectory() as tmp, tarfile.open(archive) as tar:
        small = []
        for member in tar:
            if member.name.endswith(".jpg"):
                tar.extract(member, tmp)
                small.append(os.path.join(tmp, member.name))
                if len(small) == 40:
                    break
        report(f"{len(small)} CIFAR-10 JPEGs of 32x32 to planes, µs each", race(small, 32, 50), "µs", 1e6)
tool.stdin.close()
