#!/usr/bin/env python3
"""Resampling against Pillow: real photos, every filter, many sizes and fits.

Both sides get the same pixels: Pillow reads the photo, and a lossless PNG of
it goes through unit/bin/img_tool.  The mean absolute difference must stay
under one grey level (1/255): CLOSE asks for half of that, because the order of
Pillow's two passes depends on sizes and version.  Against Pillow's two passes
in our order (first the height, then the width) nearly all values are equal:
EXACT (with box, averages of a few pixels end in exactly one half).
"""
import os
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, "t"))
from lib.tap import data, done, ok, skip_all

TOOL = os.path.join(ROOT, "unit/bin/img_tool")
PHOTOS = ["winml_hummingbird.jpg", "hot_dog.jpg", "owl.jpg", "parrot.jpg"]

try:
    import numpy as np
    from PIL import Image, ImageOps
except ImportError as e:
    skip_all(str(e))
if not data("photos/" + PHOTOS[0]):
    skip_all("no photos here")

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
CLOSE, EXACT = 0.5, 0.1
SIZES = [(224, 224), (32, 32), (1, 1), (640, 640), (97, 301), (513, 17), (1000, 700)]

tool = subprocess.Popen([TOOL], stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def ask(command, w, h):
    """Send one command; the w x h image it answers."""
    tool.stdin.write(command.encode() + b"\n")
    tool.stdin.flush()
    raw = tool.stdout.read(w * h * 3)
    return np.frombuffer(raw, np.uint8).reshape(h, w, 3).astype(int)


def compare(mine, pillow):
    d = np.abs(mine - np.asarray(pillow).astype(int))
    return d.mean(), d.max()


def resize_crop(im, w, h, side, f):
    """torchvision's Resize(side) and CenterCrop((h, w))."""
    sw, sh = im.size
    short, long = min(sw, sh), max(sw, sh)
    made = int(side * long / short)
    nw, nh = (side, made) if sw <= sh else (made, side)
    im = im.resize((nw, nh), f)
    top, left = int(round((nh - h) / 2.0)), int(round((nw - w) / 2.0))
    return im.crop((left, top, left + w, top + h))


with tempfile.TemporaryDirectory() as tmp:
    for photo in PHOTOS:
        im = Image.open(data("photos/" + photo)).convert("RGB")
        png = os.path.join(tmp, photo + ".png")
        im.save(png, compress_level=1)
        for name, f in FILTERS.items():
            close = exact = largest = 0.0
            for w, h in SIZES:
                mine = ask(f"resize {name} 0 0 {im.width} {im.height} {w} {h} {png}", w, h)
                close = max(close, compare(mine, im.resize((w, h), f))[0])
                mean, most = compare(mine, im.resize((im.width, h), f).resize((w, h), f))
                exact, largest = max(exact, mean), max(largest, most)
            ok(close == 0 if name == "nearest" else close < CLOSE and exact < EXACT,
               f"{photo} {name}, {len(SIZES)} sizes: mean difference {close:.4f}/255; "
               f"height first {exact:.4f}, largest {largest:.0f}")
        box = (10.25, 20.5, im.width - 33.75, im.height - 7.125)
        d = compare(ask("resize bicubic %r %r %r %r 200 150 %s" % (*box, png), 200, 150),
                    im.resize((200, 150), Image.Resampling.BICUBIC, box=box))
        ok(d[0] < CLOSE, f"{photo} part of the image: {d[0]:.4f}/255")
        for w, h in [(224, 224), (300, 100), (64, 200)]:
            d = compare(ask(f"fit cover 0 bilinear {w} {h} {png}", w, h),
                        ImageOps.fit(im, (w, h), Image.Resampling.BILINEAR))
            ok(d[0] < CLOSE, f"{photo} cover {w}x{h} as ImageOps.fit: {d[0]:.4f}/255")
            d = compare(ask(f"fit contain 0 lanczos {w} {h} {png}", w, h),
                        ImageOps.pad(im, (w, h), Image.Resampling.LANCZOS))
            ok(d[0] < CLOSE, f"{photo} contain {w}x{h} as ImageOps.pad: {d[0]:.4f}/255")
        d = compare(ask(f"fit resize_crop 256 bilinear 224 224 {png}", 224, 224),
                    resize_crop(im, 224, 224, 256, Image.Resampling.BILINEAR))
        ok(d[0] < CLOSE, f"{photo} resize 256, crop 224 as torchvision: {d[0]:.4f}/255")

tool.stdin.close()
tool.wait()
done()
