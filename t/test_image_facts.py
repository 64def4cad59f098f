#!/usr/bin/env python3
# timeout: 300
"""millrace.image_facts() against the libraries that define its figures, on real photos and 200 images of CIFAR-10.

Hashes: PyPI imagehash.  Brightness, contrast, entropy, colourfulness: their formulas in NumPy.  Sharpness: OpenCV's
Laplacian where the image is no larger than the small copy.  Thumbnails: correlation by NumPy.  Images that PyPI's
cleanvision tests itself with are classified as it does; damage is done with Pillow.
"""
import hashlib
import io
import os
import pathlib
import struct
import sys
import tarfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.cluster import Cluster, find_pg_config
from lib.tap import data, done, note, ok, skip_all

try:
    import cv2
    import imagehash
    import numpy as np
    import psycopg
    from PIL import Image, ImageOps
except ImportError as e:
    skip_all(f"needs {e.name}")
if not data("photos") or not data("cifar10_jpeg.tar.gz") or not data("duplicates"):
    skip_all("no photos, CIFAR-10 or duplicates here")


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "png", compress_level=1)
    return out.getvalue()


def jpeg(image, quality=90):
    out = io.BytesIO()
    image.save(out, "jpeg", quality=quality)
    return out.getvalue()


def upright(content):
    return ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")


def distance(a, b):
    return bin((a ^ b) & (2 ** 64 - 1)).count("1")


def positions(a):
    """The eight positions in the order of hashes."""
    t = a.transpose(1, 0, 2)
    return [a, a[:, ::-1], a[::-1], a[::-1, ::-1], t, t[:, ::-1], t[::-1], t[::-1, ::-1]]


def figures(pixels):
    """The definitions, on all pixels."""
    p = pixels.astype(float)
    luma = np.asarray(Image.fromarray(pixels).convert("L"))
    share = np.bincount(luma.ravel(), minlength=256) / luma.size
    share = share[share > 0]
    rg, yb = p[..., 0] - p[..., 1], (p[..., 0] + p[..., 1]) / 2 - p[..., 2]
    return {
        "brightness": luma.mean(), "contrast": luma.std(), "entropy": -(share * np.log2(share)).sum(),
        "dark_share": (luma < 82).mean(), "bright_share": (luma > 242).mean(),
        "colourfulness": np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()),
        "sharpness": cv2.Laplacian(luma, cv2.CV_64F).var(),
    }


def thumbnail(pixels):
    """8 x 8 means of an image whose sides are multiples of 8."""
    h, w, _ = pixels.shape
    v = pixels.astype(float).reshape(8, h // 8, 8, w // 8, 3).mean((1, 3))
    v -= v.mean((0, 1))
    return (v / np.sqrt((v ** 2).sum())).ravel()


def without_flat(images):
    """Of images almost of one colour every hash is noise, imagehash's too."""
    return {k: v for k, v in images.items() if figures(np.asarray(upright(v)))["entropy"] > 2}


folders = ["photos", "coco8/images/train", "coco8/images/val", "duplicates/imagededup/base_images", "duplicates/cleanvision"]
photos = {str(p.name): p.read_bytes() for f in folders for p in sorted(pathlib.Path(data(f)).glob("*.*g"))}
with tarfile.open(data("cifar10_jpeg.tar.gz")) as tar:
    members = [m for m in tar if m.isfile() and "/test/" in m.name]
    cifar = {m.name: tar.extractfile(m).read() for m in members[::len(members) // 200][:200]}

folder = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_image_facts")).resolve() / "pg"
with Cluster(find_pg_config(), folder) as cluster:
    cluster.psql("CREATE EXTENSION millrace")
    db = psycopg.connect(cluster.dsn(), autocommit=True)

    def facts(content):
        cursor = db.execute("SELECT * FROM millrace.image_facts(%s)", [content])
        return dict(zip([c.name for c in cursor.description], cursor.fetchone()))

    # Hashes.
    bits = [distance(facts(c)["hashes"][0], int(str(imagehash.phash(upright(c))), 16)) for c in without_flat(photos).values()]
    note("bits of difference, photos: " + str(np.bincount(bits)))
    ok(np.mean(np.array(bits) <= 4) >= 0.95, f"hashes of {len(bits)} photos are imagehash's: {np.mean(np.array(bits) <= 4):.1%} within 4 bits")
    bits = [distance(facts(c)["hashes"][0], int(str(imagehash.phash(upright(c))), 16)) for c in cifar.values()]
    ok(max(bits) == 0, f"and of {len(bits)} CIFAR images bit for bit")
    wrong = turned = 0
    for content in [*cifar.values()][::10]:
        f = facts(content)
        wrong += db.execute("SELECT image_hash(%s)", [content]).fetchone()[0] != f["hashes"][0]
        turned += sum(facts(png(p))["hashes"][0] != f["hashes"][i] for i, p in enumerate(positions(np.asarray(upright(content)))))
    ok(wrong == 0, "the first is image_hash()'s")
    ok(turned == 0, "the others are those of the image mirrored and turned, in the order documented")
    near = [distance(facts(jpeg(upright(c).resize((300, 300)), 60))["hashes"][0], facts(c)["hashes"][0]) for c in without_flat(photos).values()]
    ok(np.mean(np.array(near) <= 4) >= 0.95, f"scaled and compressed anew: {np.mean(np.array(near) <= 4):.1%} within 4 bits")

    # Figures.  Large images are sampled, so they are a little off.
    for what, images, tolerance in (("CIFAR", cifar, 1e-4), ("photos", photos, 0.02)):
        worst = dict.fromkeys(figures(np.zeros((8, 8, 3), np.uint8)), 0.0)
        for name, content in images.items():
            f, pixels = facts(content), np.asarray(upright(content))
            for key, expected in figures(pixels).items():
                if key != "sharpness" or max(pixels.shape) <= 240:
                    off = abs(f[key] - expected) / (1 if key.endswith("share") else max(1, expected))
                    worst[key] = max(worst[key], off)
        note(f"{what}: largest relative difference " + ", ".join(f"{k} {v:.2g}" for k, v in worst.items()))
        ok(max(worst.values()) < tolerance, f"figures of {len(images)} {what} are their definitions' within {tolerance}")
    quality = db.execute("SELECT q.* FROM image_quality(%s) q", [photos["bus.jpg"]]).fetchone()
    f = facts(photos["bus.jpg"])
    ok(quality == (f["brightness"], f["contrast"], f["sharpness"], f["entropy"], np.float32(810 / 1080), f["colourfulness"]), "image_quality() says the same")

    # Digest and thumbnail.
    pixels = np.asarray(upright(photos["bus.jpg"]))
    ok(f["pixel_sha256"] == hashlib.sha256(struct.pack(">II", 810, 1080) + pixels.tobytes()).digest(), "the digest is of size and RGB rows")
    vectors = [np.array(facts(c)["thumbnail"]) for c in cifar.values()]
    expected = [thumbnail(np.asarray(upright(c))) for c in cifar.values()]
    ok(max(np.abs(v - e).max() for v, e in zip(vectors, expected)) < 1e-5, "thumbnails are 8 x 8 means, centred by channel, of unit length")

    # Upright is as EXIF says.
    stored = Image.open(io.BytesIO(photos["owl.jpg"])).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    stored.save(out, "jpeg", quality=95, exif=exif)
    f = facts(out.getvalue())
    ok((f["orientation"], f["width"], f["height"]) == (6, stored.height, stored.width), "width and height are of the upright image")

    # What cleanvision (dark < 0.32, light < 0.05, blurry < 0.29, low information < 0.3, odd aspect < 0.35) says of its own images.
    # Grey it calls only what is stored so (588 is not).
    def kinds(f):
        found = set()
        if f["dark_share"] > 0.99:
            found.add("dark")
        if f["bright_share"] > 0.95:
            found.add("light")
        if f["entropy"] < 1.4:
            found.add("low information")
        elif f["sharpness"] < 0.03 * f["contrast"] ** 2:
            found.add("blurred")
        if min(f["width"] / f["height"], f["height"] / f["width"]) < 0.35:
            found.add("odd aspect")
        if f["channels"] == 1:
            found.add("grey")
        return found

    expected = {"image_101.png": {"grey"}, "image_417.png": {"dark"}, "image_588.png": {"light", "low information", "grey"},
                "image_591.png": {"low information"}, "image_601.png": {"blurred"}, "image_604.png": {"odd aspect"}}
    got = {name: kinds(facts(c)) for name, c in photos.items()}
    wrong = {name: k for name, k in got.items() if k != expected.get(name, set())}
    note(wrong)
    ok(not wrong, f"{len(photos)} images are called what cleanvision calls them")

    # Damage done on purpose, and none where there is none.
    whole = [facts(c) for c in photos.values()]
    ok(not any(f["black_corners"] > 0 for f in whole), "no photo has empty corners")
    ok(max(f["repeated"] for f in whole) < 0.3, "no photo is a mosaic: largest %.3f" % max(f["repeated"] for f in whole))
    plain = [upright(c) for n, c in photos.items() if n not in ("image_417.png", "image_588.png", "image_591.png", "image_604.png")]
    turned = [facts(jpeg(p.rotate(a, Image.Resampling.BILINEAR), 85))["black_corners"] > 0.005 for i, p in enumerate(plain)
              for a in (5 + i % 20, -5 - i % 20)]
    ok(np.mean(turned) >= 0.9, f"{np.mean(turned):.0%} of {len(turned)} photos rotated by 5 to 24 degrees have them; those that do not are dark themselves")
    mosaics = []
    for p in plain:
        half = p.resize((p.width // 2, p.height // 2))
        whole = Image.new("RGB", (half.width * 2, half.height * 2))
        for i in range(4):
            whole.paste(half, (i % 2 * half.width, i // 2 * half.height))
        mosaics.append(facts(jpeg(whole, 85))["repeated"] >= 0.5)
    ok(np.mean(mosaics) >= 0.95, f"{np.mean(mosaics):.0%} of {len(mosaics)} mosaics of one photo are found")
    broken = [facts(content[:len(content) * 3 // 4]) for content in cifar.values()]
    ok(all(f["sqlstate"] == "22023" and f["message"] and f["width"] is None for f in broken), "truncated files are a reason, not an error")
    db.close()
done()
