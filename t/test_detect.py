#!/usr/bin/env python3
# timeout: 900
"""detect() against ONNX Runtime, with Ultralytics' letterbox (OpenCV) and suppression (torchvision's, restated in NumPy).

Boxes within 1 pixel and scores within 0.005 on all photos and COCO8; the letterbox byte by byte; suppression on 1,000
random cases; heads of YOLOv5's kind and with suppression inside, made of YOLOv8n's graph; wrong models, broken images, prepared
statements, parallel query, a standby, the cache.  Prints TAP.  Names of parts on the command line run only those.
"""
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lib.tap import data, done, note, ok, same, skip_all

try:
    import cv2
    import numpy as np
    import onnx
    import onnxruntime
    import psycopg
    from onnx import TensorProto, helper, numpy_helper
except ImportError as e:
    skip_all(str(e))
from lib.cluster import Cluster, find_pg_config, relocate

ROOT = pathlib.Path(__file__).resolve().parents[1]
TMP = pathlib.Path(os.environ.get("MILLRACE_TMP", "tmp/test_detect")).resolve()
MODEL = data("models/yolov8n_dequant_fp32.onnx")
if not MODEL or not data("photos"):
    skip_all("no real models and photos here")
PHOTOS = sorted(pathlib.Path(data("photos")).glob("*.jpg")) + sorted(pathlib.Path(data("coco8")).glob("images/*/*.jpg"))
cv2.setNumThreads(1)


# ---- the reference

def letterbox(im, size=(640, 640), stride=0):
    """Ultralytics' LetterBox: the canvas, and what maps its pixels back."""
    h, w = im.shape[:2]
    gain = min(size[0] / h, size[1] / w)
    inner = max(round(w * gain), 1), max(round(h * gain), 1)
    bars = size[1] - inner[0], size[0] - inner[1]
    if stride:
        bars = bars[0] % stride, bars[1] % stride
    left, right = round(bars[0] / 2 - .1), round(bars[0] / 2 + .1)
    top, bottom = round(bars[1] / 2 - .1), round(bars[1] / 2 + .1)
    if (w, h) != inner:
        im = cv2.resize(im, inner, interpolation=cv2.INTER_LINEAR)
    canvas = cv2.copyMakeBorder(im, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    return canvas, (left, top, inner[0] / w, inner[1] / h, w, h)


def iou(a, b):
    """Of one box with many, in float32 and torchvision's order."""
    w = np.maximum(np.minimum(a[2], b[:, 2]) - np.maximum(a[0], b[:, 0]), np.float32(0))
    h = np.maximum(np.minimum(a[3], b[:, 3]) - np.maximum(a[1], b[:, 1]), np.float32(0))
    both = w * h
    with np.errstate(invalid="ignore", divide="ignore"):
        return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) - both)


def nms(boxes, scores, classes, threshold, most=300):
    """torchvision.ops.batched_nms(), whose kernel compares in double: indices, surest first."""
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order) and len(kept) < most:
        i, rest = order[0], order[1:]
        kept.append(i)
        over = iou(boxes[i], boxes[rest]).astype(np.float64) > threshold
        order = rest[~(over & (classes[rest] == classes[i]))]
    return np.array(kept, int)


def soft_nms(boxes, scores, classes, confidence, most=300, sigma=.5):
    scores, left, kept = scores.copy(), list(range(len(scores))), []
    while left and len(kept) < most:
        i = max(left, key=lambda k: scores[k])
        left.remove(i)
        kept.append((i, scores[i]))
        if left:
            k = np.array(left)
            over = np.where(classes[k] == classes[i], iou(boxes[i], boxes[k]), 0)
            scores[k] = scores[k] * np.exp(-over * over / np.float32(sigma))
            left = [j for j in left if scores[j] > confidence]
    return kept


def back(boxes, where):
    left, top, gx, gy, w, h = where
    boxes = (boxes - np.array([left, top, left, top], np.float32)) / np.array([gx, gy, gx, gy], np.float32)
    return np.clip(boxes, 0, np.array([w, h, w, h], np.float32))


def session(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model if isinstance(model, str) else model.SerializeToString(), options,
                                        providers=["CPUExecutionProvider"])


def run(net, content, stride=0):
    im = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    canvas, where = letterbox(im, stride=stride)
    x = np.ascontiguousarray(canvas[:, :, ::-1].transpose(2, 0, 1))[None].astype(np.float32) / 255
    return net.run(None, {net.get_inputs()[0].name: x})[0], where


def candidates(out, confidence):
    """Of a head 1 x (4 + classes) x boxes: corners, scores, classes."""
    p = out[0].T
    p = p[p[:, 4:].max(1) > np.float32(confidence)]
    half = p[:, 2:4] / 2
    return np.concatenate([p[:, :2] - half, p[:, :2] + half], 1), p[:, 4:].max(1), p[:, 4:].argmax(1)


def reference(net, content, confidence=.25, threshold=.45, agnostic=False, soft=False, stride=0):
    """[(class, score, x1, y1, x2, y2)], surest first."""
    out, where = run(net, content, stride)
    boxes, scores, classes = candidates(out, confidence)
    groups = np.zeros_like(classes) if agnostic else classes
    if soft:
        kept = soft_nms(boxes, scores, groups, confidence)
    else:
        kept = [(i, scores[i]) for i in nms(boxes, scores, groups, threshold)]
    boxes = back(boxes, where)
    return [(int(classes[i]), float(s), *map(float, boxes[i])) for i, s in kept]


def agrees(ours, theirs, floor):
    """Each has its like in the other, but where the score is the threshold's; the worst differences."""
    worst = [0, 0]
    for a, b in ((ours, theirs), (theirs, ours)):
        for d in a:
            near = min((max(abs(x - y) for x, y in zip(d[2:], e[2:])) + 1000 * (abs(d[1] - e[1]) > .005), e) for e in b + [(0, 9) + (1e9,) * 4]
                       if e[0] == d[0] or e[1] == 9)
            if near[0] > 1:
                if abs(d[1] - floor) > .005:
                    return None
                continue
            worst = [max(worst[0], near[0]), max(worst[1], abs(d[1] - near[1][1]))]
    return worst


# ---- the server's side

def connect(c):
    return psycopg.connect(c.dsn(), autocommit=True)


def rows(db, sql, *args):
    return db.execute(sql, args, binary=True).fetchall()


DETECT = "SELECT class_id, confidence, x1, y1, x2, y2 FROM detect(%s, %s, %s, %s, %s)"


def detect(db, content, model="yolo", confidence=.25, iou=.45, nms="class"):
    return rows(db, DETECT, content, model, confidence, iou, nms)


def fails(db, sql, *args):
    try:
        db.execute(sql, args)
    except psycopg.Error as e:
        return e.diag
    return None


def import_model(db, name, content, spec="{}"):
    content = content.SerializeToString() if hasattr(content, "SerializeToString") else content
    return rows(db, "SELECT millrace.import_model(%s, %s, %s)", name, content, psycopg.types.json.Jsonb(spec) if not isinstance(spec, str)
                else spec)[0][0]


# ---- models

def yolo():
    return onnx.load(MODEL)


def extend(nodes, constants, name, shape, model=None):
    """YOLOv8n's graph with more behind it, and another output."""
    m = model or yolo()
    m.graph.node.extend(nodes)
    m.graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in constants.items())
    del m.graph.output[:]
    m.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return m


def halves():
    """Another version: scores are 0.7 of what they were."""
    node = helper.make_node
    return extend([node("Slice", ["output0", "zero", "four", "one"], ["a"]), node("Slice", ["output0", "four", "end", "one"], ["b"]),
                   node("Mul", ["b", "less"], ["c"]), node("Concat", ["a", "c"], ["out"], axis=1)],
                  dict(zero=[0], four=[4], one=[1], end=[84], less=np.float32(.7)), "out", [1, 84, 8400])


def split(node):
    return [node("Transpose", ["output0"], ["t"], perm=[0, 2, 1]), node("Slice", ["t", "zero", "four", "two"], ["centre"]),
            node("Slice", ["t", "four", "end", "two"], ["scores"])], dict(zero=[0], four=[4], two=[2], end=[84])


def corners(node):
    nodes, constants = split(node)
    return nodes + [node("Slice", ["centre", "zero", "two", "two"], ["xy"]), node("Slice", ["centre", "two", "four", "two"], ["wh"]),
                    node("Mul", ["wh", "half"], ["r"]), node("Sub", ["xy", "r"], ["low"]), node("Add", ["xy", "r"], ["high"]),
                    node("Concat", ["low", "high"], ["boxes"], axis=2)], dict(constants, half=np.float32(.5))


def v5():
    """1 x 8400 x 85: how sure of an object, and scores divided by that."""
    node = helper.make_node
    nodes, constants = split(node)
    return extend(nodes + [node("ReduceMax", ["scores"], ["object"], axes=[2], keepdims=1), node("Div", ["scores", "object"], ["share"]),
                           node("Concat", ["centre", "object", "share"], ["out"], axis=2)], constants, "out", [1, 8400, 85])


def top300():
    """1 x 300 x 6, as networks with suppression inside give it (none here: the 300 surest)."""
    node = helper.make_node
    nodes, constants = corners(node)
    return extend(nodes + [node("ReduceMax", ["scores"], ["best"], axes=[2], keepdims=0), node("ArgMax", ["scores"], ["label"], axis=2, keepdims=0),
                           node("TopK", ["best", "k"], ["s", "i"], axis=1),
                           node("Reshape", ["i", "k"], ["flat"]), node("Gather", ["boxes", "flat"], ["b"], axis=1),
                           node("Gather", ["label", "flat"], ["l"], axis=1), node("Cast", ["l"], ["lf"], to=1),
                           node("Unsqueeze", ["s"], ["s3"], axes=[2]), node("Unsqueeze", ["lf"], ["l3"], axes=[2]),
                           node("Concat", ["b", "s3", "l3"], ["out"], axis=2)], dict(constants, k=[300]), "out", [1, 300, 6])


def inside():
    """M x 7 behind ONNX's NonMaxSuppression: batch, corners, class, score."""
    node = helper.make_node
    nodes, constants = corners(node)
    return extend(nodes + [node("Transpose", ["scores"], ["by_class"], perm=[0, 2, 1]),
                           node("NonMaxSuppression", ["boxes", "by_class", "most", "iou", "sure"], ["chosen"]),
                           node("Slice", ["chosen", "two", "three", "one"], ["box_no"]), node("Reshape", ["box_no", "all"], ["flat"]),
                           node("Reshape", ["boxes", "n4"], ["flat_boxes"]), node("Gather", ["flat_boxes", "flat"], ["b"], axis=0),
                           node("GatherND", ["by_class", "chosen"], ["s"]), node("Unsqueeze", ["s"], ["s2"], axes=[1]),
                           node("Cast", ["chosen"], ["f"], to=1), node("Slice", ["f", "zero", "one", "one"], ["batch"]),
                           node("Slice", ["f", "one", "two", "one"], ["label"]),
                           node("Concat", ["batch", "b", "label", "s2"], ["out"], axis=1)],
                  dict(constants, most=[50], iou=np.float32([.45]), sure=np.float32([.25]), three=[3], one=[1], all=[-1],
                       n4=[-1, 4]), "out", ["m", 7])


def open_size():
    """A small network for images of any size: three classes, a box for each cell of 32 x 32 pixels."""
    rng = np.random.default_rng(5)
    node = helper.make_node
    graph = helper.make_graph(
        [node("Conv", ["images", "w1"], ["a"], strides=[8, 8], kernel_shape=[8, 8]), node("Sigmoid", ["a"], ["b"]),
         node("Conv", ["b", "w2"], ["c"], strides=[4, 4], kernel_shape=[4, 4]), node("Sigmoid", ["c"], ["d"]),
         node("Mul", ["d", "scale"], ["e"]), node("Reshape", ["e", "shape"], ["out"])], "open",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 7, "boxes"])],
        [numpy_helper.from_array((rng.standard_normal((4, 3, 8, 8)) / 4).astype(np.float32), "w1"),
         numpy_helper.from_array((rng.standard_normal((7, 4, 4, 4)) / 2).astype(np.float32), "w2"),
         numpy_helper.from_array(np.float32([600, 400, 90, 90, 1, 1, 1]).reshape(1, 7, 1, 1), "scale"),
         numpy_helper.from_array(np.array([0, 7, -1]), "shape")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


# ---- the parts

def test_letterbox():
    """The very bytes that OpenCV makes, JPEG decoding included."""
    tool = subprocess.Popen([ROOT / "unit/bin/img_tool"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def differs(path, stride, w, h):
        tool.stdin.write(f"letterbox {stride} {w} {h} {path}\n".encode())
        tool.stdin.flush()
        left, top, _, _, width, height = map(int, tool.stdout.readline().split())
        mine = np.frombuffer(tool.stdout.read(12 * width * height), np.float32).reshape(3, height, width)
        canvas, where = letterbox(cv2.imread(str(path)), (h, w), stride)
        canvas = canvas[:, :, ::-1].transpose(2, 0, 1)
        return mine.shape != canvas.shape or (left, top) != where[:2] or (mine != canvas).any()

    bad = [p.name for p in PHOTOS for how in ((0, 640, 640), (32, 640, 640), (0, 320, 416)) if differs(p, *how)]
    same(bad, [], f"{len(PHOTOS)} photos as OpenCV letterboxes them")
    rng = np.random.default_rng(1)
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for t in range(100):
            w, h = (int(n) for n in rng.integers(1, 1400, 2))
            if t % 5 == 0:
                w, h = 1280, 2 * int(rng.integers(1, 640))
            path = os.path.join(folder, "x.png")
            cv2.imwrite(path, rng.integers(0, 256, (h, w, 3), dtype=np.uint8))
            wrong += bool(differs(path, 32 * (t % 2), 640, 640))
    ok(wrong == 0, f"100 images of noise of all sizes, halves among them ({wrong} differ)")
    tool.stdin.close()
    tool.wait()


def test_nms():
    tool = subprocess.Popen([ROOT / "unit/bin/nms"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ours(boxes, scores, classes, threshold, kind, most):
        tool.stdin.write(struct.pack("<iiifd", len(boxes), kind, most, 0, threshold))
        tool.stdin.write(np.concatenate([boxes, scores[:, None], classes[:, None]], 1).astype("<f4").tobytes())
        tool.stdin.flush()
        n, = struct.unpack("<i", tool.stdout.read(4))
        return np.frombuffer(tool.stdout.read(4 * n), "<i4")

    try:
        import torch
        import torchvision
        torch.set_num_threads(1)
    except ImportError:
        torch = None
        note("no torchvision: against its algorithm in NumPy only")
    rng = np.random.default_rng(7)
    wrong = [0, 0]
    for t in range(1000):
        n = int(rng.integers(0, 300))
        if t % 2:               # small integers: scores tie, IoUs are simple fractions, boxes are empty or equal
            low = rng.integers(0, 12, (n, 2))
            boxes = np.concatenate([low, low + rng.integers(0, 8, (n, 2))], 1).astype(np.float32)
            scores = (rng.integers(0, 6, n) / 8).astype(np.float32)
        else:
            low = rng.uniform(0, 600, (n, 2))
            boxes = np.concatenate([low, low + rng.uniform(1, 200, (n, 2))], 1).astype(np.float32)
            scores = rng.uniform(0, 1, n).astype(np.float32)
        classes = rng.integers(0, int(rng.integers(1, 6)), n)
        threshold, agnostic, most = float(rng.choice([0, .3, .45, .5, .6, .7, 1])), bool(t % 3 == 0), int(rng.choice([3, 300]))
        groups = np.zeros_like(classes) if agnostic else classes
        mine = ours(boxes, scores, classes, threshold, int(agnostic), most)
        wrong[0] += not np.array_equal(mine, nms(boxes, scores, groups, threshold, most))
        if torch:
            theirs = torchvision.ops.batched_nms(torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(groups), threshold) \
                if n * 4 > 4000 else torchvision.ops.boxes._batched_nms_vanilla(
                    torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(groups), threshold)
            theirs = theirs.numpy()[:most]
            # batched_nms() sorts the kept by score again, not stably: of equal scores any order
            wrong[1] += not np.array_equal(np.sort(scores[mine])[::-1], scores[theirs]) or \
                (most == 300 and set(mine.tolist()) != set(theirs.tolist()))
    ok(wrong[0] == 0, f"1,000 random cases as torchvision's algorithm in NumPy ({wrong[0]} differ)")
    if torch:
        ok(wrong[1] == 0, f"and as torchvision {torchvision.__version__} itself ({wrong[1]} differ)")
    tool.stdin.close()
    tool.wait()


def test_photos(db, net):
    worst, missed, count = [0, 0], [], 0
    for p in PHOTOS:
        content = p.read_bytes()
        for confidence in (.25, .05):
            theirs = reference(net, content, confidence)
            d = agrees(detect(db, content, confidence=confidence), theirs, confidence)
            count += len(theirs)
            if d is None:
                missed.append((p.name, confidence))
            else:
                worst = [max(a, b) for a, b in zip(worst, d)]
    same(missed, [], f"{len(PHOTOS)} photos, {count} boxes: within 1 pixel and 0.005 of ONNX Runtime")
    note(f"at most {worst[0]:.4f} pixels and {worst[1]:.6f}")
    content = PHOTOS[0].read_bytes()
    for name, how in (("agnostic", dict(agnostic=True)), ("soft", dict(soft=True))):
        ok(agrees(detect(db, content, confidence=.1, nms=name), reference(net, content, .1, **how), .1), f"suppression {name}")
    boxes, scores, _ = candidates(run(net, content)[0], .25)
    got = rows(db, "SELECT confidence FROM detect(%s, 'yolo', nms => 'none')", content)
    ok(len(got) == len(scores) > 20 and np.allclose([g[0] for g in got], -np.sort(-scores), atol=.005), "none: all candidates, surest first")
    same(len(rows(db, "SELECT FROM detect(%s, 'yolo', nms => 'none', max_detections => 7)", content)), 7, "max_detections")
    db.execute("SET millrace.isa = 'portable'; SET millrace.detection_cache_size = 0")
    ok(agrees(detect(db, content), reference(net, content), .25), "the portable instruction set says the same")
    db.execute("RESET millrace.isa; RESET millrace.detection_cache_size")


def test_upright(db, net):
    """EXIF: boxes are in the upright image's pixels."""
    im = cv2.imread(str(PHOTOS[0]))
    content = cv2.imencode(".jpg", np.rot90(im))[1].tobytes()
    # APP1 with orientation 6: shown turned clockwise
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    content = content[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + content[2:]
    ok(agrees(detect(db, content), reference(net, content), .25), "a turned photo")
    shape = rows(db, "SELECT detections_json(%s, 'yolo')->'image_shape'", content)[0][0]
    same(shape, {"width": im.shape[1], "height": im.shape[0]}, "its shape is the upright one")


def test_json(db):
    content = PHOTOS[0].read_bytes()
    doc = rows(db, "SELECT detections_json(%s, 'yolo', 0.3, 0.5)", content)[0][0]
    found = rows(db, "SELECT * FROM detect(%s, 'yolo', 0.3, 0.5)", content)
    h, w = cv2.imread(str(PHOTOS[0])).shape[:2]
    real = lambda x: float(np.float32(x))
    same({**doc, "detections": [{**d, "confidence": real(d["confidence"]), "bbox": {k: real(v) for k, v in d["bbox"].items()}}
                                for d in doc["detections"]]},
         {"detections": [{"class_id": d[0], "class_name": d[1], "confidence": d[2], "bbox": dict(zip(("x1", "y1", "x2", "y2"), d[3:]))}
                         for d in found], "count": len(found), "image_shape": {"width": w, "height": h}}, "detections_json")
    names = eval(next(p.value for p in yolo().metadata_props if p.key == "names"))
    same(rows(db, "SELECT labels FROM millrace.models WHERE name = 'yolo'")[0][0], [names[i] for i in range(80)],
         "class names come from the file's metadata")


def test_heads(db, net):
    some = [p.read_bytes() for p in PHOTOS[:6]]
    import_model(db, "v5", v5())
    ok(all(agrees(detect(db, c, "v5"), reference(net, c), .25) for c in some), "YOLOv5's head, 1 x 8400 x 85")
    for name, model, columns in (("top300", top300(), (4, 5, slice(0, 4))), ("inside", inside(), (6, 5, slice(1, 5)))):
        import_model(db, name, model)
        its, good = session(model), True
        for c in some:
            out, where = run(its, c)
            out = out.reshape(-1, out.shape[-1])
            out = out[out[:, columns[0]] > .25]
            boxes = back(out[:, columns[2]], where)
            theirs = [(int(o[columns[1]]), float(o[columns[0]]), *map(float, b)) for o, b in zip(out, boxes)]
            good = good and len(theirs) > 0 and agrees(detect(db, c, name), theirs, .25)
        ok(good, f"suppression inside, {' x '.join(str(d.dim_value or d.dim_param) for d in model.graph.output[0].type.tensor_type.shape.dim)}")
    import_model(db, "open", open_size(), {"labels": ["a", "b", "c"]})
    its = session(open_size())
    good = [agrees(detect(db, c, "open", .5), reference(its, c, .5, stride=32), .5) for c in some]
    ok(all(good), "open sizes: bars only up to a multiple of 32")
    same(rows(db, "SELECT DISTINCT class_name FROM detect(%s, 'open', 0.1) WHERE class_name NOT IN ('a', 'b', 'c')", some[0]), [],
         "labels of the specification")


def test_refused(db):
    photo = PHOTOS[0].read_bytes()
    import_model(db, "classifier", pathlib.Path(data("models/mobilenetv2_dequant_fp32.onnx")).read_bytes(), {"output": "logits"})
    e = fails(db, "SELECT * FROM detect(%s, 'classifier')", photo)
    ok(e and e.sqlstate == "22023" and 'model "classifier:1" is not a detector' == e.message_primary and "1 x 1001" in e.message_detail and
       e.message_hint, "a classifier is no detector")
    db.execute("SELECT millrace.train_model('wood', 'random_forest', 'SELECT ARRAY[i, -i]::real[] AS d, i % 2 AS c FROM "
               "pg_catalog.generate_series(1, 50) i', 'c')")
    e = fails(db, "SELECT * FROM detect(%s, 'wood')", photo)
    ok(e and e.sqlstate == "22023" and "is not a detector" in e.message_primary, "nor is a forest")
    e = fails(db, "SELECT millrace.import_model('three', %s, '{\"labels\": [\"a\", \"b\", \"c\"]}')", pathlib.Path(MODEL).read_bytes())
    ok(e and "3 labels" in e.message_primary, "three labels for 80 classes are refused at the import")
    e = fails(db, "SELECT * FROM detect(%s)", photo)
    ok(e and e.sqlstate == "42704" and "millrace.detector" in e.message_hint, "no model is named: the hint tells the setting")
    for sql, word in (("confidence => 1.5", "confidence"), ("iou => -0.1", "iou"), ("iou => 'NaN'", "iou"), ("nms => 'hard'", "hard"),
                      ("max_detections => 0", "max_detections"), ("max_detections => 30001", "max_detections")):
        e = fails(db, f"SELECT * FROM detect(%s, 'yolo', {sql})", photo)
        ok(e and e.sqlstate == "22023" and word in e.message_primary, f"{sql} is refused")
    same(rows(db, "SELECT * FROM detect(NULL, 'yolo')"), [], "no image, no rows")
    broken = [b"", b"text", photo[:len(photo) // 2], photo[:100], b"GIF89a" + bytes(50), photo[:200] + bytes(5000)]
    ok(all(getattr(fails(db, "SELECT * FROM detect(%s, 'yolo')", b), "sqlstate", "") == "22023" for b in broken), "broken images are errors")
    got = rows(db, "SELECT image, pg_catalog.cardinality(detections), sqlstate, message <> '' FROM millrace.detect_rows(%s, 'yolo')",
               [photo, *broken, None, photo])
    n = len(detect(db, photo))
    same(got, [(1, n, None, None)] + [(i + 2, None, "22023", True) for i in range(len(broken))] +
         [(len(broken) + 2, None, None, None), (len(broken) + 3, n, None, None)], "detect_rows: a row each")


def test_statements(c, db, net):
    """Prepared, parallel, on a standby; a new version is seen at once."""
    photo = PHOTOS[0].read_bytes()
    db.execute("SET millrace.detector = 'yolo@champion'")
    db.execute("SELECT millrace.promote_model('yolo', 1)")
    db.execute("PREPARE p(bytea) AS SELECT confidence FROM detect($1)")
    ask = lambda: db.execute(psycopg.sql.SQL("EXECUTE p({})").format(psycopg.sql.Literal(photo))).fetchall()
    hits = lambda: rows(db, "SELECT hits FROM millrace.stat_detection_cache")[0][0]
    first = [ask() for _ in range(7)][-1]
    second = import_model(db, "yolo", halves())
    before = hits()
    same((ask(), hits() - before), (first, 1), "an import changes nothing for an alias")
    db.execute(f"SELECT millrace.promote_model('yolo', {second})")
    new = ask()
    ok(hits() - before == 1 and 0 < len(new) <= len(first) and abs(new[0][0] - .7 * first[0][0]) < .001,
       "a prepared statement sees the new champion, not the old one's answer")
    same((ask(), hits() - before), (new, 2), "whose answer is kept too")
    db.execute("SELECT millrace.promote_model('yolo', 1)")
    same((ask(), hits() - before), (first, 3), "and back: the old answer is still there")
    db.execute("RESET millrace.detector")

    db.execute("CREATE TABLE photos(id int, content bytea) WITH (parallel_workers = 2)")
    for i, p in enumerate(PHOTOS):
        db.execute("INSERT INTO photos VALUES (%s, %s)", (i, p.read_bytes()))
    sql = "SELECT pg_catalog.count(*), pg_catalog.md5(pg_catalog.string_agg(d::text, ',' ORDER BY id, d::text)) FROM photos, " \
          "LATERAL detect(content, 'yolo:1', 0.2) d"
    db.execute("SELECT millrace.clear_detection_cache()")
    serial = rows(db, sql)
    db.execute("SELECT millrace.clear_detection_cache(); SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; "
               "SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off")
    plan = "\n".join(r[0] for r in db.execute("EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) " + sql).fetchall())
    ok("Workers Launched: 2" in plan and "Function Scan on detect" in plan, "detect() runs in parallel workers") or note(plan)
    before = hits()
    same(rows(db, sql), serial, "and says the same")
    same(hits() - before, len(PHOTOS), "from their cache")
    same(rows(db, "SELECT DISTINCT (d).class_name = 'person' AND (d).x2 > (d).x1 FROM (SELECT detect(%s, 'yolo:1') d) s "
              "WHERE (d).class_id = 0", photo), [(True,)], "a row type's columns in the select list")

    standby = c.standby(TMP / "standby")
    standby.start()
    with connect(standby) as other:
        waited = time.monotonic() + 20
        while rows(db, "SELECT pg_catalog.pg_current_wal_flush_lsn()::text")[0] != rows(
                other, "SELECT pg_catalog.pg_last_wal_replay_lsn()::text")[0] and time.monotonic() < waited:
            time.sleep(.1)
        same(rows(other, sql), serial, "on a standby too")
        same(rows(other, sql), serial, "again there")
        same(rows(other, "SELECT hits, misses FROM millrace.stat_detection_cache"), [(len(PHOTOS), len(PHOTOS))], "with a cache of its own")
    standby.destroy()


def test_cancel(db):
    db.execute("CREATE TABLE photo(content bytea)")
    db.execute("INSERT INTO photo VALUES (%s)", (PHOTOS[1].read_bytes(),))
    db.execute("SET millrace.detection_cache_size = 0")
    late = []
    for ms in (150, 183, 211, 247, 290):
        db.execute(f"SET statement_timeout = {ms}")
        started = time.monotonic()
        e = fails(db, "SELECT * FROM millrace.detect_rows((SELECT pg_catalog.array_agg(content) FROM photo, "
                      "pg_catalog.generate_series(1, 200)), 'yolo')")
        late.append(1000 * (time.monotonic() - started) - ms)
        if not ok(e and e.sqlstate == "57014", f"canceled after {ms} ms"):
            break
    db.execute("RESET statement_timeout; RESET millrace.detection_cache_size")
    note("late by %s ms" % ", ".join("%.1f" % x for x in late))
    ok(min(late) < 50, "and soon")


def test_cache(db):
    """Bounded: what was used longest ago goes.  The cluster has 64 kB."""
    photo = PHOTOS[3].read_bytes()
    db.execute("SELECT millrace.clear_detection_cache()")
    stat = lambda: rows(db, "SELECT entries, bytes, size, hits, misses, evicted FROM millrace.stat_detection_cache")[0]
    answers = {}
    for i in range(300):
        answers[i] = rows(db, "SELECT class_id, confidence, x1 FROM detect(%s, 'open', 0.5, 0.001 * %s)", photo, i)
        if i % 10 == 0:         # used again and again: it stays
            rows(db, "SELECT FROM detect(%s, 'open', 0.5, 0)", photo)
    entries, used, size, hits, misses, evicted = stat()
    ok(used <= size <= 64 * 1024 and entries + evicted == 300 and evicted > 0 and misses == 300 and hits == 30, "300 questions, kept in 64 kB")
    note(f"{entries} entries, {used} of {size} bytes, {evicted} evicted")
    bad = sum(rows(db, "SELECT class_id, confidence, x1 FROM detect(%s, 'open', 0.5, 0.001 * %s)", photo, i) != answers[i]
              for i in list(range(299, 200, -1)) + list(range(50)))
    ok(bad == 0, "cached or not, the same answers")
    same(rows(db, "SELECT pg_catalog.count(*) FROM detect(%s, 'open', 0, nms => 'none', max_detections => 30000)", photo)[0][0] > 200, True,
         "an answer of many boxes")
    db.execute("SET millrace.detection_cache_size = 0")
    before = stat()
    rows(db, "SELECT FROM detect(%s, 'open', 0.5, 0)", photo)
    same(stat(), before, "0: neither looked at nor kept")
    db.execute("RESET millrace.detection_cache_size")


def main():
    wanted = lambda name: len(sys.argv) < 2 or name in sys.argv[1:]
    if wanted("letterbox"):
        test_letterbox()
    if wanted("nms"):
        test_nms()
    net = session(MODEL)
    pg = relocate(TMP / "pg", os.environ.get("PG_CONFIG") or find_pg_config())
    with Cluster(pg, TMP / "main", conf={"max_worker_processes": 8}) as c, connect(c) as db:
        db.execute("CREATE EXTENSION millrace")
        import_model(db, "yolo", pathlib.Path(MODEL).read_bytes())
        for name, test in (("photos", lambda: test_photos(db, net)), ("upright", lambda: test_upright(db, net)), ("json", lambda: test_json(db)),
                           ("heads", lambda: test_heads(db, net)), ("refused", lambda: test_refused(db)),
                           ("statements", lambda: test_statements(c, db, net)), ("cancel", lambda: test_cancel(db))):
            if wanted(name):
                test()
    if wanted("cache"):
        with Cluster(pg, TMP / "cache", conf={"shared_preload_libraries": "millrace", "millrace.detection_cache_size": "64kB"}) as c, \
                connect(c) as db:
            db.execute("CREATE EXTENSION millrace")
            import_model(db, "open", open_size())
            test_cache(db)
    done()


if __name__ == "__main__":
    main()
